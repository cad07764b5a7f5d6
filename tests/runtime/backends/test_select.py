"""What `auto` takes: decided from figures alone, kept for later runs, and never in the way of one."""

import json
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

from medseg_runtime import BackendError, ParameterError, Segmenter
from medseg_runtime.backends.auto import select, trials
from medseg_runtime.backends.auto.select import decide, known_choice
from medseg_runtime.backends.auto.termination import cleaning_up
from medseg_runtime.backends.auto.trials import Trial
from medseg_runtime.backends.host_loop import failure
from medseg_runtime.backends.opening import open_backend
from medseg_runtime.backends.registry import BACKENDS, installed

IMAGE = np.random.default_rng(0).integers(0, 255, (11, 9), dtype=np.uint8)
REFERENCE = Trial(backend="onnxruntime", precision="float32", milliseconds=100.0, probability=0.0, dice=1.0)
needs_openvino = pytest.mark.skipif(installed("openvino") is None, reason="openvino is not installed")


def trial(milliseconds, precision="bfloat16", probability=0.001, dice=0.999, backend="openvino"):
    return Trial(backend=backend, precision=precision, milliseconds=milliseconds, probability=probability, dice=dice)


@pytest.fixture
def tried(monkeypatch):
    """How often the engines were compared."""
    calls, compare = [], select._run_trials
    monkeypatch.setattr(select, "_run_trials", lambda *given: (calls.append(1), compare(*given))[1])
    return calls


def kept(cache_home):
    (path,) = cache_home.glob("choice/*.json")
    return json.loads(path.read_bytes().partition(b"\n")[2])


@pytest.mark.parametrize(
    ("others", "taken"),
    [
        ([], ("onnxruntime", "float32")),
        ([trial(50.0)], ("openvino", "bfloat16")),
        ([trial(50.0), trial(40.0, "float32", 1e-6, 1.0)], ("openvino", "float32")),
        ([trial(95.0)], ("onnxruntime", "float32")),  # not worth it
        ([trial(50.0, probability=0.021)], ("onnxruntime", "float32")),
        ([trial(50.0, dice=0.989)], ("onnxruntime", "float32")),
        ([trial(50.0, "float32", 2e-4, 1.0)], ("onnxruntime", "float32")),  # float32 has the tighter tolerance
        ([trial(20.0, dice=0.5), trial(80.0)], ("openvino", "bfloat16")),
        ([trial(50.0, probability=np.nan)], ("onnxruntime", "float32")),
    ],
    ids=["alone", "faster", "fastest", "hardly faster", "probability", "masks", "float32", "the faster fails", "NaN"],
)
def test_the_fastest_that_keeps_the_masks_is_taken(others, taken):
    choice = decide([REFERENCE, *others])
    assert (choice.backend, choice.precision) == taken


def test_it_says_why():
    assert decide([REFERENCE, trial(50.0)]).why == (
        "50 ms for 16 samples against 100 of onnxruntime in float32, and the same masks: Dice 0.9990, mean probability within 0.001"
    )
    assert decide([REFERENCE, trial(95.0), trial(20.0, dice=0.5)]).why == (
        "100 ms for 16 samples, and no other was better: openvino in bfloat16 95 ms, "
        "openvino in bfloat16 other masks (Dice 0.5000, mean probability off by 0.001)"
    )


@needs_openvino
def test_engines_are_compared_once(cache_home, tiny_bundle, tried):
    assert known_choice(tiny_bundle) is None
    first = open_backend("auto", tiny_bundle)
    assert kept(cache_home) == {"backend": first.name, "precision": first.precision, "why": first.why, "attempts": 0}
    second = open_backend("auto", tiny_bundle)
    assert (second.name, second.precision, second.why) == (first.name, first.precision, first.why)
    assert len(tried) == 1
    assert known_choice(tiny_bundle).why == first.why


@needs_openvino
def test_what_the_choice_depends_on_is_compared_again(cache_home, tiny_bundle, tried, monkeypatch):
    open_backend("auto", tiny_bundle)
    open_backend("auto", tiny_bundle, precision="float32")
    monkeypatch.setattr(select, "_installation", lambda library: [library, 1])
    open_backend("auto", tiny_bundle)
    assert len(tried) == 3
    assert len(list(cache_home.glob("choice/*.json"))) == 3


@needs_openvino
def test_the_choice_holds_for_any_number_of_threads(cache_home, tiny_bundle, tried):
    whole = open_backend("auto", tiny_bundle)
    one = open_backend("auto", tiny_bundle, threads=1)
    assert (one.name, one.precision, one.why) == (whole.name, whole.precision, whole.why)
    assert len(tried) == len(list(cache_home.glob("choice/*.json"))) == 1


@needs_openvino
@pytest.mark.parametrize(
    "content",
    [
        b"not JSON",
        b'{"backend": "onnxruntime"}',
        b'{"backend": "tensorflow", "precision": "float32", "why": ""}',
        b'{"backend": 3, "precision": "float32", "why": ""}',
        b'{"backend": "onnxruntime", "precision": "float8", "why": ""}',
        b"[]",
        b"[" * 100_000,
        b'{"backend": "onnxruntime", "backend": "openvino", "precision": "float32", "why": ""}',
        None,
    ],
    ids=[
        "text",
        "incomplete",
        "no such engine",
        "wrong type",
        "no such precision",
        "list",
        "deep",
        "twice",
        "flipped bit",
    ],
)
def test_a_damaged_choice_is_made_again(cache_home, tiny_bundle, tried, content):
    open_backend("auto", tiny_bundle)
    (path,) = cache_home.glob("choice/*.json")
    if content is None:
        path.write_bytes(path.read_bytes()[:-2] + b"?")
    else:
        select.cache.store(path.relative_to(cache_home).as_posix(), content)
    assert open_backend("auto", tiny_bundle).name in BACKENDS
    assert len(tried) == 2
    assert kept(cache_home)["backend"] in BACKENDS


@needs_openvino
def test_without_a_cache_folder_the_reference_is_taken_and_says_so(tiny_bundle, tried, monkeypatch, tmp_path):
    (tmp_path / "cache").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    backend = open_backend("auto", tiny_bundle)
    assert (backend.name, backend.precision) == ("onnxruntime", "float32")
    assert "no cache folder" in backend.why
    assert not tried


@pytest.mark.usefixtures("cache_home")
@needs_openvino
def test_an_engine_that_ends_the_process_is_tried_twice(tiny_folder):
    """As OpenVINO 2026.4.1 does with some float32 graphs on AVX-512."""
    code = (
        "import os, signal, sys\n"
        "from medseg_runtime.backends.opening import open_backend\n"
        "from medseg_runtime.backends.openvino.backend import OpenVinoBackend\n"
        "from medseg_runtime.model.bundle import Bundle\n"
        "OpenVinoBackend.decode = lambda *_: os.kill(os.getpid(), signal.SIGSEGV)\n"
        "backend = open_backend('auto', Bundle.load(sys.argv[1]))\n"
        "print(backend.name, backend.precision, backend.why)"
    )
    first, second, third = (
        subprocess.run([sys.executable, "-c", code, str(tiny_folder)], capture_output=True, text=True, check=False)
        for _ in range(3)
    )
    assert first.returncode == second.returncode == -signal.SIGSEGV
    assert third.stdout.startswith("onnxruntime float32 an earlier comparison of backends did not finish"), third


@pytest.mark.usefixtures("cache_home")
@needs_openvino
def test_a_run_beside_a_comparison_waits_for_what_it_finds(tiny_bundle, tried, monkeypatch):
    """Or one of two that start together on a new machine would draw other masks."""
    found, compare, beside = [], select._run_trials, []

    def slowly(*given):
        beside.append(threading.Thread(target=lambda: found.append(open_backend("auto", tiny_bundle))))
        beside[0].start()
        beside[0].join(0.2)
        assert not found
        return compare(*given)

    monkeypatch.setattr(select, "_run_trials", slowly)
    found.append(open_backend("auto", tiny_bundle))
    beside[0].join()
    assert len(tried) == 1
    assert found[0].why == found[1].why != select.COMPARISON_UNFINISHED


@pytest.mark.usefixtures("cache_home")
@needs_openvino
def test_an_interrupted_comparison_is_repeated(tiny_bundle, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(select, "_run_trials", interrupted)
        with pytest.raises(KeyboardInterrupt):
            open_backend("auto", tiny_bundle)
    assert known_choice(tiny_bundle) is None
    assert "did not finish" not in open_backend("auto", tiny_bundle).why


@needs_openvino
@pytest.mark.parametrize("call", ["load", "run"])
@pytest.mark.parametrize("reason", ["pthread_create failed", "std::bad_alloc"])
def test_a_choice_made_while_threads_or_memory_were_lacking_is_not_kept(
    cache_home, tiny_bundle, monkeypatch, call, reason
):
    from medseg_runtime.backends.openvino.backend import OpenVinoBackend

    def lacking(*_, **__):
        raise failure("OpenVINO cannot run", RuntimeError(reason), "Use --backend onnxruntime.")

    with monkeypatch.context() as patch:
        patch.setattr(OpenVinoBackend, "__init__" if call == "load" else "decode", lacking)
        backend = open_backend("auto", tiny_bundle)
    assert (backend.name, backend.precision, backend.why) == ("onnxruntime", "float32", select.SHORTAGE)
    assert not list(cache_home.glob("choice/*.json"))
    assert open_backend("auto", tiny_bundle).why != select.SHORTAGE


TOLD_TO_END = """
import os, signal, sys, threading
from medseg_runtime.backends.auto import select
from medseg_runtime.backends.host_loop import failure
from medseg_runtime.backends.opening import open_backend
from medseg_runtime.backends.openvino.backend import OpenVinoBackend
from medseg_runtime.model.bundle import Bundle

def told(*given):
    os.kill(os.getpid(), int(sys.argv[2]))
    return []

if int(sys.argv[2]):
    OpenVinoBackend.decode = told
backend = open_backend("auto", Bundle.load(sys.argv[1]))
print(backend.why)
print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
"""


@pytest.mark.usefixtures("cache_home")
@needs_openvino
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGKILL])
def test_a_comparison_in_a_process_that_is_told_to_end_is_repeated(tiny_folder, number):
    first, second = (
        subprocess.run(
            [sys.executable, "-c", TOLD_TO_END, str(tiny_folder), str(int(sent))],
            capture_output=True,
            text=True,
            check=False,
        )
        for sent in (number, 0)
    )
    assert first.returncode == -number
    assert second.returncode == 0
    why, restored = second.stdout.splitlines()
    assert "did not finish" not in why
    assert restored == "True"


def test_a_program_that_handles_the_signal_itself_keeps_it():
    seen, before = [], signal.signal(signal.SIGTERM, lambda number, _: seen.append(number))
    try:
        with cleaning_up():
            signal.raise_signal(signal.SIGTERM)
        assert seen == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_in_another_thread_nothing_changes():
    thread = threading.Thread(target=lambda: cleaning_up().__enter__())
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.usefixtures("cache_home")
@needs_openvino
def test_an_engine_that_fails_is_left_out(tiny_bundle, monkeypatch):
    def broken(*_, **__):
        raise BackendError("OpenVINO is not in the mood", "Ask again.")

    monkeypatch.setattr(installed("openvino"), "decode", broken)
    backend = open_backend("auto", tiny_bundle)
    assert backend.name == "onnxruntime"
    assert backend.why == "no other backend could be loaded"


def test_one_engine_is_taken_without_being_measured(cache_home, tiny_bundle, tried, monkeypatch):
    monkeypatch.setitem(sys.modules, BACKENDS["openvino"].module, None)  # its import fails
    backend = open_backend("auto", tiny_bundle)
    assert (backend.name, backend.precision) == ("onnxruntime", "float32")
    assert "no other backend is installed" in backend.why
    assert not tried
    assert not cache_home.exists()
    with pytest.raises(ParameterError, match="none of onnxruntime multiplies in bfloat16"):
        open_backend("auto", tiny_bundle, precision="bfloat16")


def test_engines_of_a_gpu_are_not_tried():
    tried = {name for name, _ in select._candidates("auto")}
    assert "onnxruntime" in tried
    assert tried <= {name for name, engine in BACKENDS.items() if engine.device == "cpu"}


@needs_openvino
def test_the_real_trials_measure_what_they_say(tiny_bundle):
    """The same function beside itself: no time is compared, and the masks are the same."""
    candidates = select._candidates("float32")
    reference, other = select._run_trials(candidates, tiny_bundle)
    assert (reference.probability, reference.dice) == (0.0, 1.0)
    assert other.probability < 1e-5
    assert other.dice > 0.999
    assert min(reference.milliseconds, other.milliseconds) > 0


def test_masks_that_differ_are_seen():
    reference = np.where(np.arange(16) < 8, 4.0, -4.0).astype(np.float32).reshape(1, 1, 4, 4)
    found = np.where(np.arange(16) < 6, 4.0, -4.0).astype(np.float32).reshape(1, 1, 4, 4)
    probability, dice = trials.compared([found, reference], [reference, reference])
    assert dice == pytest.approx(2 * (6 + 8) / (6 + 8 + 8 + 8))
    assert probability == pytest.approx(np.tanh(2.0))  # sigmoid(4) - sigmoid(-4)
    empty = np.full((1, 1, 4, 4), -4.0, np.float32)
    assert trials.compared([empty], [empty]) == (0.0, 1.0)


def test_several_classes_are_compared_class_by_class():
    logits = np.zeros((2, 3, 4, 4), np.float32)
    logits[:, 1, :2], logits[:, 2, 2:] = 5.0, 5.0
    assert trials.compared([logits], [logits]) == (0.0, 1.0)
    assert trials.compared([logits[:, [0, 2, 1]]], [logits])[1] == 0.0


@pytest.mark.parametrize("radius", trials.RADII)
def test_the_synthetic_fields_are_fields(tiny_bundle, radius):
    field = trials.synthetic_field(tiny_bundle.manifest.input, radius)
    assert field.shape == (1, 1, 8, 8)
    assert field.dtype == np.float32
    assert 0 <= field.min() < field.max() <= 1


@pytest.mark.usefixtures("cache_home")
@needs_openvino
def test_a_segmenter_of_auto_draws(tiny_folder):
    assert len(Segmenter.load(tiny_folder)(IMAGE, samples=3).masks) == 3
