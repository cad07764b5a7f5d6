"""OpenVINO beyond what every engine must do: bfloat16, compiled models in the cache, and what it must not do to a process."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("openvino")

from medseg_runtime import ParameterError, Segmenter
from medseg_runtime.backends.opening import open_backend
from medseg_runtime.backends.openvino import backend as backend_module
from medseg_runtime.backends.openvino import graph_rewrites
from medseg_runtime.backends.openvino.backend import OpenVinoBackend
from medseg_runtime.backends.openvino.graph_rewrites import flatten_planes, write_out_transposes
from medseg_runtime.model.bundle import Bundle

ov, ops = graph_rewrites.ov, graph_rewrites.ops

IMAGE = np.random.default_rng(0).integers(0, 255, (11, 9), dtype=np.uint8)
EVERY_PRECISION = pytest.mark.parametrize(
    "precision", ["float32", pytest.param("bfloat16", marks=pytest.mark.bfloat16)]
)


@pytest.fixture
def compiled(monkeypatch):
    """The graphs and batches that were compiled, not taken from the cache."""
    made = []
    compile_ = backend_module._Models._compile
    monkeypatch.setattr(
        backend_module._Models,
        "_compile",
        lambda self, graph, batch, options: (made.append((graph, batch)), compile_(self, graph, batch, options))[1],
    )
    return made


def test_auto_multiplies_in_what_the_processor_has(tiny_bundle):
    assert open_backend("openvino", tiny_bundle).precision == OpenVinoBackend.precisions()[0]
    assert open_backend("openvino", tiny_bundle, precision="float32").precision == "float32"


def test_a_processor_without_bfloat16_refuses_it(tiny_bundle, monkeypatch):
    monkeypatch.setattr(OpenVinoBackend, "precisions", classmethod(lambda _: ("float32",)))
    with pytest.raises(ParameterError, match=r"multiply in bfloat16 on this machine\. Use --precision float32"):
        open_backend("openvino", tiny_bundle, precision="bfloat16")


@EVERY_PRECISION
def test_the_usual_batches_are_compiled_for_themselves_and_the_others_together(
    cache_home, tiny_folder, compiled, precision
):
    segmenter = Segmenter.load(tiny_folder, backend="openvino", precision=precision)
    for samples in (16, 3, 5, 16):
        assert len(segmenter(IMAGE, samples=samples).masks) == samples
    assert compiled == [
        ("encoder", None),
        *((graph, batch) for batch in (16, None) for graph in ("denoiser", "decoder")),
    ]
    assert len(list(cache_home.glob("openvino/*.blob"))) == 5


def test_the_second_process_compiles_nothing(cache_home, tiny_folder, compiled):
    first = Segmenter.load(tiny_folder, backend="openvino")(IMAGE)
    assert len(compiled) == 3
    second = Segmenter.load(tiny_folder, backend="openvino")(IMAGE)
    assert len(compiled) == 3
    assert (first.masks == second.masks).all()
    assert len(list(cache_home.glob("openvino/*.blob"))) == 3


@pytest.mark.usefixtures("cache_home")
def test_what_an_older_version_compiled_is_not_taken(tiny_folder, compiled, monkeypatch):
    Segmenter.load(tiny_folder, backend="openvino")(IMAGE)
    monkeypatch.setattr(backend_module, "CACHE_VERSION", backend_module.CACHE_VERSION + 1)
    Segmenter.load(tiny_folder, backend="openvino")(IMAGE)
    assert len(compiled) == 6


def test_other_threads_and_another_graph_are_other_models(cache_home, tiny_folder, tiny, tmp_path, compiled):
    Segmenter.load(tiny_folder, backend="openvino")
    Segmenter.load(tiny_folder, backend="openvino", threads=1)
    named = tiny.model("encoder") + b"\x12\x01x"  # the name of who made it: another file
    other = tiny.write_bundle(tmp_path, encoder=named)
    Segmenter.load(other, backend="openvino")
    assert compiled == 3 * [("encoder", None)]
    assert len(list(cache_home.glob("openvino/*.blob"))) == 3


def test_the_result_names_the_compiled_models_that_ran(cache_home, tiny_folder):
    ran = []
    for _ in range(2):  # compiled here, and taken from the cache
        result = Segmenter.load(tiny_folder, backend="openvino")(IMAGE, samples=16)
        ran.append(result.provenance.backend.compiled)
    assert ran[0] == ran[1]
    assert set(ran[0]) == {"encoder", "denoiser, batch 16", "decoder, batch 16"}
    contents = [path.read_bytes().partition(b"\n")[2] for path in cache_home.glob("openvino/*.blob")]
    assert set(ran[0].values()) == {hashlib.sha256(content).hexdigest() for content in contents}


def test_a_compiled_model_in_the_place_of_another_is_not_taken(cache_home, tiny_folder, tiny, tmp_path, compiled):
    """Both are ours and whole. The other bundle's decoder has the same inputs and outputs, and draws other masks."""
    onnx = pytest.importorskip("onnx")

    def blob_of(result):
        wanted = result.provenance.backend.compiled["decoder, batch 4"]
        files = {path: path.read_bytes() for path in cache_home.glob("openvino/*.blob")}
        return next(path for path in files if hashlib.sha256(files[path].partition(b"\n")[2]).hexdigest() == wanted)

    changed = onnx.load_from_string(tiny.model("decoder"))
    changed.graph.initializer[0].float_data[:] = [-3.0, 5.0]
    other = tiny.write_bundle(tmp_path, decoder=changed.SerializeToString())
    first, others = (Segmenter.load(folder, backend="openvino")(IMAGE, samples=4) for folder in (tiny_folder, other))
    assert (first.mean_probability != others.mean_probability).any()
    blob_of(first).write_bytes(blob_of(others).read_bytes())
    again = Segmenter.load(tiny_folder, backend="openvino")(IMAGE, samples=4)
    np.testing.assert_array_equal(again.mean_probability, first.mean_probability)
    assert len(compiled) == 3 + 1 + 1


@pytest.mark.parametrize("sealed", [False, True], ids=["on the disk", "as stored"])
def test_a_damaged_compiled_model_is_made_again(cache_home, tiny_folder, compiled, sealed):
    first = Segmenter.load(tiny_folder, backend="openvino")(IMAGE)
    for path in cache_home.glob("openvino/*.blob"):
        if sealed:
            backend_module.cache.store(path.relative_to(cache_home).as_posix(), b"of another OpenVINO")
        else:
            path.write_bytes(path.read_bytes()[:-1000])
    again = Segmenter.load(tiny_folder, backend="openvino")(IMAGE)
    assert len(compiled) == 6
    assert (first.masks == again.masks).all()
    Segmenter.load(tiny_folder, backend="openvino")(IMAGE)
    assert len(compiled) == 6


def test_without_a_cache_folder_it_compiles_and_says_nothing(tiny_folder, tmp_path, monkeypatch, compiled, capfd):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "none"))
    (tmp_path / "none").write_text("in the way")
    assert len(Segmenter.load(tiny_folder, backend="openvino")(IMAGE).masks) == 16
    assert len(compiled) == 3
    assert capfd.readouterr() == ("", "")


def test_a_fork_with_threads_of_its_own_is_refused_and_does_not_hang(tiny_folder):
    code = f"""
import os, numpy as np
from medseg_runtime import BackendError, Segmenter
segmenter, image = Segmenter.load({str(tiny_folder)!r}, backend="openvino", threads=1), np.zeros((9, 9), np.uint8)
segmenter(image, samples=2)
if os.fork():
    os._exit(os.waitstatus_to_exitcode(os.wait()[1]))
try:
    segmenter(image, samples=2)
except BackendError as error:
    os._exit(7 if "forked. Load the bundle in each process" in str(error) else 8)
os._exit(9)
"""
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=False).returncode == 7


@pytest.mark.bfloat16
def test_the_encoder_stays_in_float32_and_the_others_do_not():
    bundle = Bundle.load()
    half, full = (open_backend("openvino", bundle, precision=precision) for precision in ("bfloat16", "float32"))
    field = np.random.default_rng(0).random((1, 1, 64, 64), np.float32)
    np.testing.assert_allclose(half.encode(field), full.encode(field), atol=1e-5)
    latents = np.random.default_rng(1).standard_normal((2, *bundle.manifest.latent), np.float32)
    assert np.abs(half.decode(latents) - full.decode(latents)).max() > 1e-3


@EVERY_PRECISION
def test_the_shipped_model_draws_the_masks_of_onnx_runtime(phantom, precision):
    onnx_runtime, openvino = (
        Segmenter.load(backend=name, precision=each)
        for name, each in (("onnxruntime", "auto"), ("openvino", precision))
    )
    (slice_,) = phantom.make_nodule(seed=0)
    image = slice_.image
    expected, found = (segmenter(image, samples=16) for segmenter in (onnx_runtime, openvino))
    tolerance = 1e-4 if precision == "float32" else 0.02
    assert np.abs(found.mean_probability - expected.mean_probability).max() < tolerance
    both = np.count_nonzero(found.masks & expected.masks)
    assert 2 * both / (np.count_nonzero(found.masks) + np.count_nonzero(expected.masks)) > 0.99
    assert expected.masks.any()


# --- the slow loops that graphs go round -----------------------------------------------------------------------------------


def graph_of(bundle, graph, batch=None):
    model = backend_module._core().read_model(bundle.graphs[graph])
    if batch is not None:
        model.reshape(
            {port.any_name: [backend_module._side(side, batch) for side in port.partial_shape] for port in model.inputs}
        )
    return model


def results(model, precision, batch):
    """What a model makes of noise."""
    inputs = {
        port.any_name: [backend_module._side(side, batch) for side in port.partial_shape] for port in model.inputs
    }
    rng = np.random.default_rng(0)
    noise = {name: rng.standard_normal(shape, np.float32) for name, shape in inputs.items()}
    compiled = backend_module._core().compile_model(model, "CPU", backend_module._options(precision, 1))
    return compiled(noise).to_tuple()


@pytest.mark.parametrize(("graph", "norms", "slow"), [("encoder", 33, 4), ("denoiser", 19, 4), ("decoder", 6, 6)])
def test_a_rewritten_graph_computes_the_same_numbers(graph, norms, slow):
    bundle = Bundle.load()
    as_exported, rewritten = graph_of(bundle, graph, 4), graph_of(bundle, graph, 4)
    assert write_out_transposes(rewritten) == slow
    assert flatten_planes(rewritten) == norms
    for before, after in zip(*(results(model, "float32", 4) for model in (as_exported, rewritten)), strict=True):
        assert (before == after).all()


def test_planes_are_flattened_where_the_batch_is_open():
    bundle = Bundle.load()
    as_exported, rewritten = graph_of(bundle, "denoiser"), graph_of(bundle, "denoiser")
    assert flatten_planes(rewritten) == 19
    for before, after in zip(*(results(model, "float32", 3) for model in (as_exported, rewritten)), strict=True):
        assert (before == after).all()


def test_only_what_would_be_copied_slowly_is_written_out():
    def model(channels, side, batch=1):
        given = ops.parameter([batch, channels, side, side], np.float32)
        return ov.Model([ops.reshape(given, np.array([1, 8, -1]), special_zero=False)], [given])

    slow = [(64, 16), (16, 12), (64, 16, 4)]
    fast = [(72, 16), (8, 16), (64, 8), (64, 16, -1)]
    assert [write_out_transposes(model(*sides)) for sides in slow + fast] == [1, 1, 1, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("arithmetic", "flattened"),
    [
        (lambda planes: ops.add(planes, np.ones((1, 8, 1, 1), np.float32)), 1),
        (lambda planes: ops.multiply(planes, ops.sigmoid(planes)), 1),
        (lambda planes: ops.multiply(planes, np.float32(2)), 1),
        (lambda planes: ops.add(planes, np.ones((1, 8, 4, 4), np.float32)), 0),
        (lambda planes: ops.add(planes, np.ones((1, 1, 1, 4), np.float32)), 0),
        (lambda planes: ops.reduce_mean(planes, np.array([2]), keep_dims=True), 0),
        (lambda planes: planes, 0),
    ],
    ids=[
        "number of a channel",
        "silu",
        "number",
        "number of a pixel",
        "number of a column",
        "sum over rows",
        "nothing",
    ],
)
def test_only_what_is_done_with_each_pixel_is_flattened(arithmetic, flattened):
    given = ops.parameter([2, 4, 32], np.float32)
    planes = ops.reshape(given, np.array([2, 8, 4, 4]), special_zero=False)
    model = ov.Model([arithmetic(planes)], [given])
    before = model.output(0).get_partial_shape()
    assert flatten_planes(model) == flattened
    assert model.output(0).get_partial_shape() == before


@pytest.mark.usefixtures("cache_home")
@pytest.mark.parametrize(
    ("precision", "written_out"),
    [("float32", ["denoiser", "decoder"]), pytest.param("bfloat16", [], marks=pytest.mark.bfloat16)],
)
def test_graphs_are_compiled_with_both(monkeypatch, precision, written_out):
    seen = {"write_out_transposes": [], "flatten_planes": []}
    for name, models in seen.items():
        monkeypatch.setattr(graph_rewrites, name, lambda model, models=models: models.append(len(model.inputs)))
    Segmenter.load(backend="openvino", precision=precision)(IMAGE, samples=1)
    sides = {graph: len(about.inputs) for graph, about in Bundle.load().manifest.graphs.items()}
    assert seen["write_out_transposes"] == [sides[graph] for graph in ["encoder", *written_out]]
    assert seen["flatten_planes"] == [sides[graph] for graph in ("encoder", "denoiser", "decoder")]
