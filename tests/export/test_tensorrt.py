"""NVIDIA's own parser and strongly typed builder, which need no GPU in TensorRT-RTX, judge the graphs; and what they refuse is an error of ours."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from types import ModuleType

import onnx.parser
import pytest

pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")

import tensorrt_rtx
from rich.console import Console
from rich.progress import Progress

from medseg_export import build_progress, cli, engine_cache, engine_target, to_tensorrt
from medseg_export.engine_target import compute_capabilities_from, profile_from, target_ahead, targets
from medseg_export.engine_writer import build_engines
from medseg_export.float32_layers import float32_layers, float32_report
from medseg_export.to_tensorrt import build_plan, configure, parse
from medseg_runtime.bundle import Bundle
from medseg_runtime.engines import ENGINES, RECORD_NAME, EngineRecord, Flags, Profile, open_engines
from medseg_runtime.errors import EngineError, OutputError, ParameterError
from medseg_runtime.gpu import Gpu
from medseg_runtime.trt_log import error_log

PLAIN = Flags(version_compatible=False, hardware="none", workspace_mib=None, optimization_level=3)
WIDE, STATIC = Profile(min=1, opt=4, max=64), Profile(min=4, opt=4, max=4)
VERSION = tensorrt_rtx.__version__
KINDS = ("flow", "paper", "classes")
GRAPHS = ("encoder", "denoiser", "decoder")


def target(*sm, profiles=(WIDE,), **flags):
    return target_ahead(sm or (86,), profiles, replace(PLAIN, **flags))


def silent():
    return Progress(console=Console(file=io.StringIO()), disable=True)


def planned(target, name, graph, content):
    plan, _ = build_plan(target, name, graph, content, b"", silent())
    return plan


def graphs_of(bundle, precision):
    return (bundle.manifest.graphs, bundle.graphs) if precision == "float32" else (bundle.manifest.half, bundle.half)


@pytest.fixture(scope="module")
def bundle(half_bundle_of):
    return Bundle.load(half_bundle_of("flow"))


@pytest.fixture
def own(half_bundle_of, tmp_path):
    """A bundle that a test may write to."""
    return Bundle.load(shutil.copytree(half_bundle_of("flow"), tmp_path / "bundle"))


@pytest.fixture(autouse=True)
def cache_home(tmp_path, monkeypatch):
    """A cache of this test's own: nothing is built yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "medseglatdiff" / "tensorrt"


# --- what is built


@pytest.mark.parametrize("graph", GRAPHS)
def test_the_shipped_graphs_build(graph):
    shipped = Bundle.load()
    assert len(planned(target(), graph, shipped.manifest.graphs[graph], shipped.graphs[graph])) > 1e5


@pytest.mark.parametrize("profiles", [(WIDE,), (STATIC,), (WIDE, STATIC)], ids=["dynamic", "static", "both"])
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_graphs_of_either_precision_build_for_a_range_and_for_one_number_of_samples(bundle, precision, profiles):
    entries, contents = graphs_of(bundle, precision)
    for name in GRAPHS:
        assert len(planned(target(profiles=profiles), name, entries[name], contents[name])) > 10_000


@pytest.mark.parametrize("kind", KINDS[1:])
def test_graphs_of_every_kind_of_model_build(kind, bundle_of):
    other = Bundle.load(bundle_of(kind))
    for name in GRAPHS:
        assert len(planned(target(), name, other.manifest.graphs[name], other.graphs[name])) > 10_000


def test_graphs_build_for_every_compute_capability_that_the_default_names(bundle):
    each = [
        planned(target(sm), "denoiser", bundle.manifest.half["denoiser"], bundle.half["denoiser"])
        for sm in compute_capabilities_from(engine_target.RTX_DEFAULT)
    ]
    assert len(set(each)) == 3
    together = planned(target(86, 89, 120), "denoiser", bundle.manifest.half["denoiser"], bundle.half["denoiser"])
    assert together not in each


@pytest.mark.parametrize(("precision", "dtype"), [("float32", "FLOAT"), ("float16", "HALF")])
def test_networks_are_strongly_typed_and_compute_in_what_the_graph_says(bundle, precision, dtype):
    entries, contents = graphs_of(bundle, precision)
    for name in GRAPHS:
        definition = parse(tensorrt_rtx, name, entries[name], contents[name]).definition
        assert definition.get_flag(tensorrt_rtx.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        layers = [definition.get_layer(index) for index in range(definition.num_layers)]
        convolutions = [layer for layer in layers if layer.type == tensorrt_rtx.LayerType.CONVOLUTION]
        assert len(convolutions) > 2
        assert {layer.get_output(0).dtype.name for layer in convolutions} == {dtype}


def test_every_library_is_asked_for_a_strongly_typed_network(bundle):
    # TensorRT-RTX knows no other; TensorRT 10 would compute in what it likes
    asked = []

    class Builder:  # no subclass: the binding's own cannot be told when one is deleted
        def __init__(self, log):
            self.real = tensorrt_rtx.Builder(log)

        def create_network(self, flags=0):
            asked.append(flags)
            return self.real.create_network(flags)

    library = ModuleType("tensorrt")
    vars(library).update({name: getattr(tensorrt_rtx, name) for name in dir(tensorrt_rtx)} | {"Builder": Builder})
    parse(library, "decoder", bundle.manifest.graphs["decoder"], bundle.graphs["decoder"])
    assert asked == [1 << int(tensorrt_rtx.NetworkDefinitionCreationFlag.STRONGLY_TYPED)]


def test_options_reach_the_builder_and_products_are_not_rounded_to_tf32():
    builder = tensorrt_rtx.Builder(error_log(tensorrt_rtx))
    assert builder.create_builder_config().get_flag(tensorrt_rtx.BuilderFlag.TF32)  # what is switched off
    config = configure(target(86, 120, optimization_level=2, workspace_mib=64), builder)
    assert not config.get_flag(tensorrt_rtx.BuilderFlag.TF32)
    assert config.builder_optimization_level == 2
    assert config.get_memory_pool_limit(tensorrt_rtx.MemoryPoolType.WORKSPACE) == 64 << 20
    assert config.num_compute_capabilities == 2
    assert not config.get_flag(tensorrt_rtx.BuilderFlag.VERSION_COMPATIBLE)
    version = configure(target(version_compatible=True), builder)
    assert version.get_flag(tensorrt_rtx.BuilderFlag.VERSION_COMPATIBLE)


def test_the_list_of_float32_layers_has_a_reason_for_each_and_no_convolution(bundle):
    lines = float32_report(target(), bundle)
    assert {line.split(":")[0] for line in lines} == set(GRAPHS)
    found = {}
    for name in GRAPHS:
        definition = parse(tensorrt_rtx, name, bundle.manifest.half[name], bundle.half[name]).definition
        found[name] = float32_layers(tensorrt_rtx, definition)
        kinds = set().union(*found[name].values())
        assert "NORMALIZATION" in kinds
        assert kinds.isdisjoint({"CONVOLUTION", "CONSTANT"})
    assert not any("row" in reason or "time" in reason for name in ("encoder", "decoder") for reason in found[name])
    assert {"the time embedding", "the sampler's row, whose rounding would add up over the steps"} < set(
        found["denoiser"]
    )
    full = parse(tensorrt_rtx, "decoder", bundle.manifest.graphs["decoder"], bundle.graphs["decoder"]).definition
    assert "CONVOLUTION" in set().union(*float32_layers(tensorrt_rtx, full).values())


def test_a_build_shows_its_phases_and_leaves_no_bar_behind(bundle):
    titles = []

    class Recorded(Progress):
        def add_task(self, description, **options):
            titles.append(description)
            return super().add_task(description, **options)

    with Recorded(console=Console(file=io.StringIO()), disable=True) as progress:
        build_plan(target(), "decoder", bundle.manifest.half["decoder"], bundle.half["decoder"], b"", progress)
        assert progress.tasks == []
    assert titles[0].startswith("decoder: ")
    assert any(title.startswith("  ") for title in titles)


# --- what is refused


def refused(match, target, name="decoder", graph=None, content=None, *, bundle):
    graph = bundle.manifest.half[name] if graph is None else graph
    with pytest.raises(EngineError, match=match) as caught:
        planned(target, name, graph, bundle.half[name] if content is None else content)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("profiles", "match"),
    [
        ((Profile(min=4, opt=2, max=8),), r"refuses 4,2,8 samples: .*MIN<=OPT<=MAX.*Give --trt-samples"),
        ((Profile(min=1, opt=2, max=2), Profile(min=3, opt=3, max=1)), "refuses 3,3,1 samples"),
        ((), "cannot build the decoder: .*no optimization profile has been defined"),
    ],
)
def test_bad_profiles_are_refused_with_what_the_library_logged(bundle, profiles, match):
    refused(match, target(profiles=profiles), bundle=bundle)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (lambda half: half["decoder"][:-100], "does not take the decoder: MODEL_DESERIALIZE_FAILED"),
        (lambda _: b"rubbish", "does not take the decoder: MODEL_DESERIALIZE_FAILED"),
        (lambda _: b"", "reads nothing in the decoder"),
        (lambda half: half["encoder"], r"reads image \(1, 1, 32, 32\), condition .* in the decoder, not what bundle"),
    ],
    ids=["truncated", "rubbish", "empty", "another graph"],
)
def test_a_file_that_is_not_the_graph_is_refused(bundle, content, match):
    refused(match, target(), content=content(bundle.half), bundle=bundle)


@pytest.mark.parametrize(
    ("body", "match"),
    [
        ("determinant = Det (x) y = Add (determinant, x)", "operator Det .*UNSUPPORTED_NODE"),
        ("y = nobody.Nothing (x)", "operator Nothing .*(UNSUPPORTED_NODE|INVALID_NODE|not found)"),
        ("low = Cast <to = 10> (x) y = Add (low, x)", "operator Add .*must have same input types.*Half and Float"),
    ],
    ids=["unsupported", "unknown", "badly typed"],
)
def test_operators_that_the_parser_lacks_are_refused_by_name(bundle, body, match):
    text = (
        f'<ir_version: 10, opset_import: ["" : 21, "nobody" : 1]> g (float[1,1,4,4] x) => (float[1,1,4,4] y) {{{body}}}'
    )
    graph = replace(bundle.manifest.half["decoder"], inputs={"x": (1, 1, 4, 4)}, outputs={"y": (1, 1, 4, 4)})
    refused(match, target(), graph=graph, content=onnx.parser.parse_model(text).SerializeToString(), bundle=bundle)


@pytest.mark.parametrize(
    ("target", "match"),
    [
        (target(hardware="ampere_plus"), r"no hardware compatibility ampere_plus\. Leave out the option"),
        (target(workspace_mib=1), "cannot build the decoder: .*[Ww]orkspace"),
        (target(version_compatible=True), "cannot build the decoder: .*libnvinfer_lean"),
    ],
    ids=["hardware", "workspace", "version"],
)
def test_what_the_library_cannot_do_is_refused(bundle, target, match):
    refused(match, target, bundle=bundle)


def test_gpus_that_the_library_does_not_build_for_are_refused_before_there_is_a_target():
    with pytest.raises(EngineError, match=r"not build for compute capability 9\.0\. Give --sm some of 75,80,86,89,120"):
        target(90)
    with pytest.raises(EngineError, match=r"compute capability 5\.0, 99\.9"):
        target(50, 86, 999)


def test_what_was_logged_before_is_not_blamed_on_the_next_call(bundle):
    log = error_log(tensorrt_rtx)
    log.log(tensorrt_rtx.ILogger.ERROR, "of another time")
    log.log(tensorrt_rtx.ILogger.WARNING, "no error")
    with pytest.raises(EngineError) as caught:
        planned(target(profiles=()), "decoder", bundle.manifest.half["decoder"], bundle.half["decoder"])
    assert "of another time" not in str(caught.value)
    assert log.take() == "it logged no error"


@pytest.mark.parametrize("text", ["", "0", "65", "4,2,8", "1,2", "1,2,3,4", "a", "-1", "1.5", "1,16,65"])
def test_ranges_of_samples_that_make_no_sense_are_refused(text):
    with pytest.raises(ParameterError, match=r"--trt-samples.*MIN,OPT,MAX in rising order from 1 to 64"):
        profile_from(text)


def test_options_are_read_as_they_are_meant():
    assert profile_from("1, 16,64") == Profile(min=1, opt=16, max=64)
    assert profile_from("16").static
    assert compute_capabilities_from("120,86,86") == (86, 120)
    with pytest.raises(ParameterError, match=r"--sm '8\.6' is no list"):
        compute_capabilities_from("8.6")
    with pytest.raises(ParameterError, match="--sm is given without --trt-rtx"):
        targets(trt=False, trt_rtx=False, sm="86", samples=["4"], flags=PLAIN)
    assert targets(trt=False, trt_rtx=False, sm=None, samples=["4"], flags=PLAIN) == []


def test_a_library_that_is_not_installed_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    with pytest.raises(EngineError, match=r"tensorrt_rtx cannot be imported.*medseglatdiff\[trt-rtx\]"):
        target()
    gpu = Gpu(name="none", compute_capability=86, driver=None, cuda="13.0")
    monkeypatch.setattr(engine_target, "first_gpu", lambda: gpu)
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(EngineError, match=r"tensorrt cannot be imported.*medseglatdiff\[trt\]"):
        targets(trt=True, trt_rtx=False, sm=None, samples=["4"], flags=PLAIN)


# --- what is written, and read again


def folders(bundle):
    """Everything beside the graphs."""
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


@pytest.fixture
def built(own):
    build_engines(own, target(), silent())
    return own


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


def test_the_runner_hears_what_the_library_logs_in_the_process_that_built(built):
    """TensorRT takes the first logger of a process: after a build, the builder's."""
    pytest.importorskip("cuda.bindings.runtime", reason="cuda-bindings is not installed")
    from medseg_runtime.backends.trt_engine import LoadedEngines

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


def count_builds(monkeypatch):
    names = []

    def counted(target, name, *arguments):
        names.append(name)
        return build_plan(target, name, *arguments)

    monkeypatch.setattr(engine_cache, "build_plan", counted)
    return names


def test_what_was_built_once_is_taken_from_the_cache(own, monkeypatch, cache_home):
    names = count_builds(monkeypatch)
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


def test_a_build_that_fails_leaves_the_engines_that_were_there(own):
    build_engines(own, target(), silent())
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
    """SIGINT as a terminal's Ctrl-C: a process that was started in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_an_interrupted_build_ends_at_its_next_step_and_leaves_nothing(own, monkeypatch):
    started, monitors = [], []

    def kept(*arguments):
        monitors.append(build_progress.progress_monitor(*arguments))
        return monitors[-1]

    monkeypatch.setattr(to_tensorrt, "progress_monitor", kept)

    class Interrupted(Progress):
        def add_task(self, description, **options):
            started.append(description)
            if description.startswith("denoiser"):
                signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
                deadline = time.monotonic() + 10
                while not monitors[-1]._cancelled and time.monotonic() < deadline:
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


def test_a_bundle_that_cannot_be_written_to_is_refused_before_anything_is_built(own, monkeypatch):
    names = count_builds(monkeypatch)
    (own.folder / ENGINES).mkdir()
    (own.folder / ENGINES / "tensorrt_rtx-sm86").write_text("a file")
    with pytest.raises(OutputError, match=r"is not a folder.*Copy the bundle to a folder that may be written"):
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


@pytest.fixture
def medseg_export(monkeypatch, capsys):
    """medseg_export(*arguments) -> (exit code, stderr)."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["medseg-export", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        return caught.value.code or 0, capsys.readouterr().err

    return run


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
    monkeypatch.setattr("medseg_runtime.gpu.DRIVER", "libcuda-of-nobody.so.1")
    code, err = medseg_export(*(argument.replace("BUNDLE", str(own.folder)) for argument in arguments))
    assert code == 1
    assert match in err
    assert err.count("\n") == 1
    assert folders(own) is None
