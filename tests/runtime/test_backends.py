"""Finding an engine, and a real one on three tiny graphs, from the folder to the masks."""

import dataclasses
import hashlib
import sys

import numpy as np
import onnx
import onnx.parser
import pytest

from medseg_runtime import Segmenter
from medseg_runtime.backends import BACKENDS, open_backend
from medseg_runtime.backends.host import HostLoop
from medseg_runtime.bundle import MANIFEST_NAME, Bundle, Graph, Manifest, Sampling
from medseg_runtime.errors import BackendError, ParameterError
from medseg_runtime.imaging import InputRule
from medseg_runtime.sampler import ProbabilityPath

IMAGE = np.random.default_rng(0).integers(0, 255, (11, 9), dtype=np.uint8)
HEADER = '<ir_version: 10, opset_import: ["" : 21]>'
LATENT = "float[N,2,4,4]"
GRAPHS = {
    "encoder": """(float[1,1,8,8] image) => (float[1,2,4,4] condition) {
        pooled = AveragePool <kernel_shape = [2, 2], strides = [2, 2]> (image)
        condition = Concat <axis = 1> (pooled, pooled)
    }""",
    "denoiser": f"""({LATENT} latent, {LATENT} extra, float[1,2,4,4] condition, float[1,6] time_features, float[5] row)
        => ({LATENT} next_latent, {LATENT} denoised) {{
        p, q, a, b, c = Split <num_outputs = 5> (row)
        time = ReduceMean <keepdims = 0> (time_features)
        scale = Add (condition, time)
        scaled = Mul (latent, scale)
        out = Tanh (scaled)
        pz = Mul (p, latent)
        qo = Mul (q, out)
        denoised = Add (pz, qo)
        az = Mul (a, latent)
        bd = Mul (b, denoised)
        ce = Mul (c, extra)
        kept = Add (az, bd)
        next_latent = Add (kept, ce)
    }}""",
    "decoder": f"""({LATENT} latent) => (float[N,1,8,8] logits) {{
        axes = Constant <value_ints = [1]> ()
        summed = ReduceSum (latent, axes)
        sides = Constant <value_floats = [1.0, 1.0, 2.0, 2.0]> ()
        logits = Resize <mode = "nearest"> (summed, , sides)
    }}""",
}


class Numpy(HostLoop):
    """The same three functions."""

    name, version, precision = "numpy", np.__version__, "float32"

    def run(self, graph, feeds):
        if graph == "encoder":
            return (np.repeat(feeds["image"].reshape(1, 1, 4, 2, 4, 2).mean(axis=(3, 5)), 2, axis=1),)
        z = feeds["latent"]
        if graph == "decoder":
            return (z.sum(axis=1, keepdims=True).repeat(2, axis=2).repeat(2, axis=3),)
        p, q, a, b, c = feeds["row"]
        denoised = p * z + q * np.tanh(z * (feeds["condition"] + feeds["time_features"].mean()))
        return a * z + b * denoised + c * feeds["extra"], denoised

    def close(self):
        pass


def model(name):
    parsed = onnx.parser.parse_model(f"{HEADER} {name} {GRAPHS[name]}")
    onnx.checker.check_model(parsed, full_check=True)
    return parsed.SerializeToString()


def shapes(values):
    return {
        value.name: tuple(side.dim_param or side.dim_value for side in value.type.tensor_type.shape.dim)
        for value in values
    }


def described(name, content, **changes):
    graph = onnx.load_from_string(model(name)).graph
    return Graph(
        file=f"{name}.onnx",
        sha256=hashlib.sha256(content).hexdigest(),
        opset=21,
        precision="float32",
        weights="float32",
        **{"inputs": shapes(graph.input), "outputs": shapes(graph.output)} | changes,
    )


def write_bundle(folder, objective="flow", **contents):
    """Write the toy bundle, with other content for some graphs."""
    files = {name: contents.get(name, model(name)) for name in GRAPHS}
    manifest = Manifest(
        name="tiny",
        task="nothing",
        classes=("nodule",),
        input=InputRule(channels=1, height=8, width=8, geometry="resize", intensity="minmax"),
        latent=(2, 4, 4),
        path=ProbabilityPath(objective=objective),
        sampling=Sampling(sampler="dpmpp", steps=3, antithetic=True),
        graphs={name: described(name, content) for name, content in files.items()},
        intended_use="tests of software",
    )
    for name, content in files.items():
        (folder / f"{name}.onnx").write_bytes(content)
    (folder / MANIFEST_NAME).write_text(manifest.to_json())
    return folder


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("tiny"))


@pytest.mark.parametrize(
    ("objective", "sampler"), [("flow", "euler"), ("flow", "dpmpp"), ("epsilon", "ddim"), ("epsilon", "ddpm")]
)
def test_onnx_runtime_draws_the_masks_that_numpy_does(tmp_path, objective, sampler):
    segmenter = Segmenter.load(write_bundle(tmp_path, objective), backend="onnxruntime")
    reference = Segmenter(segmenter.manifest, Numpy())
    found, expected = (s(IMAGE, samples=5, steps=4, sampler=sampler) for s in (segmenter, reference))
    assert 0.05 < expected.confidence.mean() < 0.95
    assert expected.mean_pairwise_iou < 0.9
    np.testing.assert_allclose(found.mean_probability, expected.mean_probability, atol=1e-5)
    assert (found.masks == expected.masks).all()


def test_a_real_engine_draws_a_sample_alike_in_every_batch(bundle):
    whole, split = Segmenter.load(bundle), Segmenter.load(bundle, max_batch=3)
    masks = whole(IMAGE, samples=64).masks
    assert (split(IMAGE, samples=64).masks == masks).all()
    assert (whole(IMAGE, samples=2).masks == masks[:2]).all()


def test_auto_takes_an_installed_engine(bundle):
    segmenter = Segmenter.load(bundle)
    assert segmenter.backend.name in BACKENDS
    assert segmenter.bundle_sha256 == Bundle.load(bundle).sha256
    assert segmenter.backend.version


def test_an_unknown_backend_is_refused(bundle):
    with pytest.raises(ParameterError, match="Use one of: auto, onnxruntime"):
        Segmenter.load(bundle, backend="tensorflow")


@pytest.mark.parametrize(
    ("name", "problem"), [("auto", "no inference engine is"), ("onnxruntime", "onnxruntime is not")]
)
def test_a_missing_engine_comes_with_the_command_that_installs_it(monkeypatch, bundle, name, problem):
    for module, _, _ in BACKENDS.values():
        monkeypatch.setitem(sys.modules, module, None)  # its import fails
    with pytest.raises(BackendError, match=rf"{problem} installed\. Run `pip install 'medseglatdiff\[cpu\]'`"):
        open_backend(name, Bundle.load(bundle))


@pytest.mark.parametrize("content", [b"not a graph", b"\x08\x0a"], ids=["text", "no graph"])
def test_a_graph_that_the_engine_cannot_load_is_our_error(tmp_path, content):
    folder = write_bundle(tmp_path, decoder=content)
    with pytest.raises(BackendError, match=r"cannot load decoder\.onnx.*Export the bundle again"):
        Segmenter.load(folder, backend="onnxruntime")


def test_a_graph_with_other_names_than_the_manifest_is_refused(tmp_path):
    renamed = onnx.load_from_string(model("encoder"))
    renamed.graph.input[0].name = renamed.graph.node[0].input[0] = "picture"
    folder = write_bundle(tmp_path, encoder=renamed.SerializeToString())
    with pytest.raises(BackendError, match=r"encoder\.onnx has inputs and outputs .*picture"):
        Segmenter.load(folder, backend="onnxruntime")


def test_a_failure_inside_the_engine_is_our_error(bundle):
    backend = open_backend("onnxruntime", Bundle.load(bundle))
    with pytest.raises(BackendError, match="failed in decoder"):
        backend.run("decoder", {"latent": np.zeros((1, 3, 4, 4), np.float32)})


def test_outputs_come_in_the_order_of_the_manifest(bundle):
    loaded = Bundle.load(bundle)
    denoiser = loaded.manifest.graphs["denoiser"]
    swapped = dataclasses.replace(denoiser, outputs=dict(reversed(denoiser.outputs.items())))
    graphs = loaded.manifest.graphs | {"denoiser": swapped}
    feeds = {
        name: np.full([2 if side == "N" else side for side in shape], 0.5, np.float32)
        for name, shape in denoiser.inputs.items()
    }
    as_written = open_backend("onnxruntime", loaded).run("denoiser", feeds)
    other = dataclasses.replace(loaded, manifest=dataclasses.replace(loaded.manifest, graphs=graphs))
    reversed_outputs = open_backend("onnxruntime", other).run("denoiser", feeds)
    np.testing.assert_array_equal(as_written, reversed_outputs[::-1])
    np.testing.assert_allclose(as_written, Numpy().run("denoiser", feeds), rtol=1e-6)


def test_a_closed_backend_does_not_run(bundle):
    backend = open_backend("onnxruntime", Bundle.load(bundle))
    backend.close()
    with pytest.raises(BackendError):
        backend.run("encoder", {"image": np.zeros((1, 1, 8, 8), np.float32)})
