"""A bundle of three tiny graphs in onnx's text format, and the same three functions in numpy; a fixture gives this module."""

import hashlib

import numpy as np
import onnx
import onnx.parser

from medseg_runtime.backends.host_loop import HostLoop
from medseg_runtime.model.bundle import MANIFEST_NAME, Graph, Manifest, Sampling
from medseg_runtime.model.noise import NoiseLaw
from medseg_runtime.model.preprocess import InputRule
from medseg_runtime.model.sampler import ProbabilityPath

HEADER = '<ir_version: 10, opset_import: ["" : 21]>'
LATENT = "float[N,2,4,4]"
GRAPHS = {
    "encoder": """(float[1,1,8,8] image) => (float[1,2,4,4] condition)
        <float[2,1,2,2] quarters = {0.25, 0.25, 0.25, 0.25, 0.25, 0.25, 0.25, 0.25}> {
        condition = Conv <kernel_shape = [2, 2], strides = [2, 2]> (image, quarters)
    }""",
    "denoiser": f"""({LATENT} latent, {LATENT} extra, float[1,2,4,4] condition, float[1,6] time_features, float[5] row)
        => ({LATENT} next_latent, {LATENT} denoised)
        <float one = {{1.0}}, float two = {{2.0}}, float six = {{6.0}}, float[6,1] ones = {{1.0, 1.0, 1.0, 1.0, 1.0, 1.0}}> {{
        p, q, a, b, c = Split <num_outputs = 5> (row)
        total = MatMul (time_features, ones)
        time = Div (total, six)
        scale = Add (condition, time)
        scaled = Mul (latent, scale)
        doubled = Mul (two, scaled)
        between = Sigmoid (doubled)
        widened = Mul (two, between)
        out = Sub (widened, one)
        pz = Mul (p, latent)
        qo = Mul (q, out)
        denoised = Add (pz, qo)
        az = Mul (a, latent)
        bd = Mul (b, denoised)
        ce = Mul (c, extra)
        kept = Add (az, bd)
        next_latent = Add (kept, ce)
    }}""",
    "decoder": f"""({LATENT} latent) => (float[N,1,8,8] logits)
        <float[1,2,1,1] ones = {{1.0, 1.0}}, float[4] sides = {{1.0, 1.0, 2.0, 2.0}}> {{
        summed = Conv (latent, ones)
        logits = Resize <mode = "nearest"> (summed, , sides)
    }}""",
}
"""Of operators that medseg-export writes; tanh is written as 2 sigmoid(2 x) - 1."""


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
        sampling=Sampling(sampler="dpmpp", steps=3, noise=NoiseLaw(antithetic=True)),
        graphs={name: described(name, content) for name, content in files.items()},
        intended_use="tests of software",
    )
    for name, content in files.items():
        (folder / f"{name}.onnx").write_bytes(content)
    (folder / MANIFEST_NAME).write_text(manifest.to_json())
    return folder
