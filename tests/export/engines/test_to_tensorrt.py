"""TensorRT-RTX, whose parser and builder need no GPU, builds the graphs. What it rejects becomes an EngineError."""

import io
import sys
from dataclasses import replace
from types import ModuleType

import onnx.parser
import pytest

pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")

import tensorrt_rtx
from rich.console import Console
from rich.progress import Progress

from medseg_export.engines import target as target_module
from medseg_export.engines.float32_layers import float32_layers, float32_report
from medseg_export.engines.target import compute_capabilities_from, profile_from, targets
from medseg_export.engines.to_tensorrt import build_plan, configure, parse
from medseg_runtime.backends.gpu.tensorrt.engine_files import Profile
from medseg_runtime.backends.gpu.tensorrt.logger import error_log
from medseg_runtime.errors import EngineError, ParameterError
from medseg_runtime.machine.gpu import Gpu
from medseg_runtime.model.bundle import Bundle
from tests.export.engines.rtx import GRAPHS, PLAIN, STATIC, WIDE, graphs_of, planned, target
from tests.export.kinds import OTHER_KINDS

pytestmark = pytest.mark.usefixtures("cache_home")

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


@pytest.mark.parametrize("kind", OTHER_KINDS)
def test_graphs_of_every_kind_of_model_build(kind, bundle_of):
    other = Bundle.load(bundle_of(kind))
    for name in GRAPHS:
        assert len(planned(target(), name, other.manifest.graphs[name], other.graphs[name])) > 10_000


def test_graphs_build_for_every_compute_capability_that_the_default_names(bundle):
    each = [
        planned(target(sm), "denoiser", bundle.manifest.half["denoiser"], bundle.half["denoiser"])
        for sm in compute_capabilities_from(target_module.RTX_DEFAULT)
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
    # TensorRT-RTX has no other kind; TensorRT 10 would choose the precision itself
    asked = []

    class Builder:  # a wrapper, no subclass: the binding cannot delete one
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
    assert {"the time embedding", "the sampler's row: its rounding would add up over the steps"} < set(
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
        ("y = unknown.Nothing (x)", "operator Nothing .*(UNSUPPORTED_NODE|INVALID_NODE|not found)"),
        ("low = Cast <to = 10> (x) y = Add (low, x)", "operator Add .*must have same input types.*Half and Float"),
    ],
    ids=["unsupported", "unknown", "badly typed"],
)
def test_operators_that_the_parser_lacks_are_refused_by_name(bundle, body, match):
    text = f'<ir_version: 10, opset_import: ["" : 21, "unknown" : 1]> g (float[1,1,4,4] x) => (float[1,1,4,4] y) {{{body}}}'
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


def test_an_error_contains_only_what_its_own_call_logged(bundle):
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
    monkeypatch.setattr(target_module, "find_gpu", lambda: gpu)
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(EngineError, match=r"tensorrt cannot be imported.*medseglatdiff\[trt\]"):
        targets(trt=True, trt_rtx=False, sm=None, samples=["4"], flags=PLAIN)
