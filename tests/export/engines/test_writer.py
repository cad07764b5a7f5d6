"""Engines built ahead of time: written to a bundle, read, cached, interrupted, and built by the command."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from itertools import count

import pytest

pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")

import tensorrt_rtx
from rich.console import Console
from rich.progress import Progress

from medseg_export.engines import cache, to_tensorrt
from medseg_export.engines.progress import progress_monitor
from medseg_export.engines.writer import build_engines
from medseg_runtime.backends.gpu.tensorrt.engine_files import ENGINES, RECORD_NAME, EngineRecord, Profile, open_engines
from medseg_runtime.errors import EngineError, OutputError
from medseg_runtime.model.bundle import Bundle
from tests.export.engines.rtx import GRAPHS, PLAIN, STATIC, VERSION, WIDE, silent, target

pytestmark = pytest.mark.usefixtures("cache_home")

# --- what is written, and read again


def folders(bundle):
    """Return all paths below engines/; None without that folder."""
    engines = bundle.folder / ENGINES
    return sorted(path.relative_to(engines).as_posix() for path in engines.rglob("*")) if engines.exists() else None


def opened(bundle, sm=86, version=VERSION):
    return open_engines(Bundle.load(bundle.folder), "tensorrt_rtx", version, sm)


def test_engines_are_read_as_they_were_built_and_the_bundle_is_still_the_same(own):
    before = own.sha256
    out, record = build_engines(own, target(86, 89, profiles=(WIDE, STATIC)), silent())
    assert out.name == record.target == "tensorrt_rtx-sm86-sm89"
    assert Bundle.load(own.folder).sha256 == before
    for sm in (86, 89):
        engines = opened(own, sm)
        assert engines.record == record
        assert {name: len(plan) for name, plan in engines.plans.items()} == {
            n: p.bytes for n, p in record.plans.items()
        }
    assert (record.precision, record.gpu, record.profiles, record.flags) == ("float16", None, (WIDE, STATIC), PLAIN)
    assert record.plans["denoiser"].source_sha256 == own.manifest.half["denoiser"].sha256
    assert EngineRecord.from_json(record.to_json()) == record
    assert [record.profile_for(samples) for samples in (3, 4, 64)] == [0, 1, 0]


REBUILD = r"Run `medseg-export build .* --trt-rtx --sm \d+`\."


@pytest.fixture(scope="module")
def built_once(bundle, tmp_path_factory):
    """A bundle with engines for compute capability 8.6; read only."""
    copy = Bundle.load(shutil.copytree(bundle.folder, tmp_path_factory.mktemp("built") / "bundle"))
    build_engines(copy, target(), silent())
    return copy


@pytest.fixture
def built(built_once, tmp_path):
    """A copy of it that a test may change."""
    return Bundle.load(shutil.copytree(built_once.folder, tmp_path / "built"))


@pytest.mark.parametrize(
    ("asked", "match"),
    [
        ({"sm": 89}, r"for compute capability 8\.6, the GPU has 8\.9"),
        ({"version": "1.8.0"}, f"were built by tensorrt_rtx {VERSION}, here is 1.8.0"),
    ],
)
def test_engines_of_another_gpu_or_version_are_not_opened(built, asked, match):
    with pytest.raises(EngineError, match=rf"{match}.*{REBUILD}"):
        opened(built, **asked)


def changed_record(folder, **fields):
    path = folder / RECORD_NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


DAMAGE = {
    "truncated": (lambda f: (f / "decoder.plan").write_bytes((f / "decoder.plan").read_bytes()[:-1]), "bytes of"),
    "flipped": (lambda f: _flip(f / "decoder.plan"), "SHA-256 differs"),
    "gone": (lambda f: (f / "decoder.plan").unlink(), "decoder.plan"),
    "no record": (lambda f: (f / RECORD_NAME).unlink(), "engine.json"),
    "no JSON": (lambda f: (f / RECORD_NAME).write_text("{"), "engine.json cannot be used: JSONDecodeError"),
    "schema": (lambda f: changed_record(f, schema_version=2), "schema version 2"),
    "plans": (lambda f: changed_record(f, plans={}), "plans are"),
    "profiles": (lambda f: changed_record(f, profiles=[{"min": 2, "opt": 1, "max": 3}]), "profiles are 2,1,3"),
    "field": (lambda f: changed_record(f, library="onnx"), "engine.json cannot be used"),
    "precision": (lambda f: changed_record(f, precision="float32"), "built from other float32 graphs"),
}


def _flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_engines_are_not_opened(built, damage):
    change, match = DAMAGE[damage]
    change(built.folder / ENGINES / "tensorrt_rtx-sm86")
    with pytest.raises(EngineError, match=rf"{match}.*{REBUILD}"):
        opened(built)


def test_loading_in_the_process_that_built_reports_what_the_library_logs(built):
    """TensorRT uses the first logger of a process, which after a build is the builder's."""
    pytest.importorskip("cuda.bindings.runtime", reason="cuda-bindings is not installed")
    from medseg_runtime.backends.gpu.tensorrt.engine import LoadedEngines

    engines = opened(built)
    engines.plans["encoder"] = b"rubbish"
    with pytest.raises(EngineError, match=r"does not load encoder\.plan: .*readHeader.*medseg-export build"):
        LoadedEngines(engines, tensorrt_rtx, built.manifest)


def test_a_plan_outside_the_folder_of_its_record_is_not_opened(built):
    folder = built.folder / ENGINES / "tensorrt_rtx-sm86"
    plans = json.loads((folder / RECORD_NAME).read_text())["plans"]
    changed_record(folder, plans=plans | {"decoder": plans["decoder"] | {"file": "../decoder.plan"}})
    with pytest.raises(EngineError, match="lies outside the folder"):
        opened(built)


def test_without_engines_the_error_names_the_command(own):
    with pytest.raises(EngineError, match=rf"the bundle has no tensorrt_rtx engines\. {REBUILD}"):
        opened(own)


def test_a_bundle_without_low_precision_graphs_is_built_in_float32_only_when_asked(bundle_of, tmp_path):
    full = Bundle.load(shutil.copytree(bundle_of("flow"), tmp_path / "full"))
    with pytest.raises(EngineError, match=r"no float16 graphs\. .*`medseg-export --half`.*--trt-float32"):
        build_engines(full, target(), silent())
    assert folders(full) is None
    _, record = build_engines(full, target(), silent(), float32=True)
    assert record.precision == "float32"
    assert opened(full).record == record


# --- building again, and being interrupted


@pytest.fixture
def names(monkeypatch):
    """Names of the graphs that were built, by a fake builder that never returns the same plan twice."""
    names, number = [], count()

    def build(_target, name, *_):
        names.append(name)
        return f"plan {next(number)}".encode(), b""

    monkeypatch.setattr(cache, "build_plan", build)
    return names


def test_what_was_built_once_is_taken_from_the_cache(own, names, cache_home):
    _, first = build_engines(own, target(), silent())
    _, again = build_engines(own, target(), silent())
    assert names == list(GRAPHS)
    assert again.plans == first.plans
    for changed in (target(89), target(profiles=(STATIC,)), target(optimization_level=2)):
        names.clear()
        build_engines(own, changed, silent())
        assert names == list(GRAPHS)
    names.clear()
    build_engines(own, target(), silent(), float32=True)
    assert names == list(GRAPHS)
    names.clear()
    for path in cache_home.glob("*.plan"):
        _flip(path)
    build_engines(own, target(), silent())
    assert names == list(GRAPHS)


def test_a_build_that_fails_leaves_the_engines_that_were_there(built):
    own = built
    before = (own.folder / ENGINES / "tensorrt_rtx-sm86" / RECORD_NAME).read_bytes()
    listed = folders(own)
    with pytest.raises(EngineError):
        build_engines(own, target(workspace_mib=1), silent())
    assert folders(own) == listed
    assert (own.folder / ENGINES / "tensorrt_rtx-sm86" / RECORD_NAME).read_bytes() == before
    build_engines(own, target(profiles=(STATIC,)), silent())
    assert opened(own).record.profiles == (STATIC,)
    assert folders(own) == listed


@pytest.fixture
def ctrl_c():
    """Handle SIGINT as in a terminal: a process started in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_an_interrupted_build_ends_at_its_next_step_and_leaves_nothing(own, monkeypatch):
    started, monitors = [], []

    def kept(*arguments):
        monitors.append(progress_monitor(*arguments))
        return monitors[-1]

    monkeypatch.setattr(to_tensorrt, "progress_monitor", kept)

    class Interrupted(Progress):
        def add_task(self, description, **options):
            started.append(description)
            if description.startswith("denoiser"):
                signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
                while not monitors[-1]._cancelled:
                    time.sleep(0.001)
            return super().add_task(description, **options)

    with (
        pytest.raises(KeyboardInterrupt),
        Interrupted(console=Console(file=io.StringIO()), disable=True) as progress,
    ):
        build_engines(own, target(), progress)
    assert len(monitors) == 2  # of the encoder and the denoiser
    of_encoder = next(index for index, title in enumerate(started) if title.startswith("denoiser"))
    assert len(started) - of_encoder < of_encoder / 2
    assert folders(own) is None


def test_a_bundle_that_cannot_be_written_to_is_refused_before_anything_is_built(own, names):
    (own.folder / ENGINES).mkdir()
    (own.folder / ENGINES / "tensorrt_rtx-sm86").write_text("a file")
    with pytest.raises(OutputError, match=r"is not a folder.*Copy the bundle to a writable folder"):
        build_engines(own, target(), silent())
    assert names == []


# --- the command


BUILD = """
import json, sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "onnx", "onnxruntime", "onnxscript", "safetensors", "lightning_fabric", "scipy"):
            raise ModuleNotFoundError(f"{name} is blocked", name=name)

sys.meta_path.insert(0, Block())
from medseg_export import cli

try:
    cli.main()
finally:
    print(json.dumps(sorted(name for name in sys.modules if name.startswith(("torch", "onnx", "medseg_trainer")))))
"""


def test_the_command_builds_from_a_bundle_alone_without_torch_and_onnx(own):
    arguments = [
        "build",
        str(own.folder),
        "--trt-rtx",
        "--sm",
        "86,120",
        "--trt-samples",
        "1,4,8",
        "--trt-samples",
        "4",
    ]
    done = subprocess.run(
        [sys.executable, "-c", BUILD, *arguments], capture_output=True, text=True, check=False, env=os.environ
    )
    assert done.returncode == 0, done.stderr
    first, *_, modules = done.stdout.splitlines()
    assert first.startswith(
        f"{own.folder}/engines/tensorrt_rtx-sm86-sm120: tensorrt_rtx {VERSION}, float16, samples 1,4,8 and 4,"
    )
    assert "in float32: denoiser: the time embedding: " in done.stdout
    assert json.loads(modules) == []
    record = opened(own, 120).record
    assert record.profiles == (Profile(min=1, opt=4, max=8), STATIC)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["build", "BUNDLE"], "there is nothing to build. Give --trt, or --trt-rtx"),
        (["build", "BUNDLE", "--trt-rtx", "--trt-samples", "8,4,1"], "no range of samples"),
        (["build", "BUNDLE", "--trt-rtx", "--sm", "90"], "does not build for compute capability 9.0"),
        (["build", "BUNDLE", "--trt-rtx", "--trt-workspace", "1"], "cannot build the"),
        (["build", "BUNDLE", "--trt"], "no NVIDIA GPU can be used"),
        (["build", "BUNDLE", "--trt", "--sm", "86"], "--sm is given without --trt-rtx"),
        (["build", "BUNDLE/nowhere", "--trt-rtx"], "bundle.json"),
        (["--trt-rtx", "build", "BUNDLE"], "--trt-rtx stands before `build` and would have no effect"),
    ],
)
def test_what_the_command_refuses_is_one_line_and_nothing_is_written(own, arguments, match, medseg_export, monkeypatch):
    monkeypatch.setattr("medseg_runtime.machine.gpu.DRIVER", "libcuda-missing.so.1")
    code, _, err = medseg_export(*(argument.replace("BUNDLE", str(own.folder)) for argument in arguments))
    assert code == 1
    assert match in err
    assert err.count("\n") == 1
    assert folders(own) is None
