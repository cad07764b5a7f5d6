"""A backend without a model, to test code built on a `Segmenter` in milliseconds, without files or an inference library.

>>> from medseg_runtime.testing import toy_segmenter
>>> segmenter = toy_segmenter()
>>> segmenter(np.zeros((128, 128), np.uint8), samples=4).masks.shape
(4, 128, 128)

Its masks are discs around the center of the field, whose radius depends on the sample's noise.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from medseg_runtime.backends.base import Float32
from medseg_runtime.backends.host_loop import HostLoop
from medseg_runtime.errors import BackendError
from medseg_runtime.inference.segmenter import Segmenter
from medseg_runtime.model.bundle import Graph, Manifest, Sampling
from medseg_runtime.model.noise import NoiseLaw
from medseg_runtime.model.preprocess import InputRule
from medseg_runtime.model.sampler import Objective, ProbabilityPath
from medseg_runtime.model.signatures import GraphName, Signature, graph_signatures

LATENT = (4, 8, 8)
TIME_FEATURES = 32
RADIUS = 0.2
"""Of the mean disc, as a share of the field's shorter side."""


class FakeBackend(HostLoop):
    """Numpy in place of networks, with the inputs and outputs of a manifest.

    The denoiser applies the sampler's row to a network that halves its input. The decoder makes one disc per sample, larger for
    a larger mean of the latent. Several classes are rings of equal width, the first innermost.
    """

    name = "fake"
    version = "0"
    precision = "float32"

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        self.calls: list[tuple[GraphName, int]] = []
        """Graph and batch of each call."""
        self.closed = False

    def run(self, graph: GraphName, feeds: dict[str, Float32]) -> tuple[Float32, ...]:
        """Check the feeds against the manifest, count the call, and return arrays of the right shapes."""
        self._check(graph, feeds)
        if graph == "encoder":
            self.calls.append((graph, 1))
            rows, columns = self.manifest.latent[1:]
            return (np.full((1, 1, rows, columns), feeds["image"].mean(), np.float32),)
        latent = feeds["latent"]
        self.calls.append((graph, len(latent)))
        if graph == "decoder":
            return (self._discs(latent),)
        p, q, a, b, c = feeds["row"]
        denoised: Float32 = p * latent + q * (0.5 * latent)
        next_latent: Float32 = a * latent + b * denoised + c * feeds["extra"]
        return next_latent, denoised

    def clone(self) -> FakeBackend:
        """Return another with its own list of calls."""
        return type(self)(self.manifest)

    def close(self) -> None:
        """Refuse later calls."""
        self.closed = True

    def _check(self, graph: GraphName, feeds: dict[str, Float32]) -> None:
        expected = self.manifest.graphs[graph].inputs
        batch = len(feeds["latent"]) if "latent" in feeds else 1
        shapes = {name: tuple(batch if side == "N" else side for side in shape) for name, shape in expected.items()}
        found = {name: array.shape for name, array in feeds.items()}
        if self.closed or found != shapes or any(array.dtype != np.float32 for array in feeds.values()):
            raise BackendError(f"{graph} was given {found}, not float32 {shapes}", "Feed what bundle.json says.")

    def _discs(self, latent: Float32) -> Float32:
        """Latents (N, z, h, w) => logits (N, K, H, W), steep enough for a border of about one pixel."""
        rule, classes = self.manifest.input, len(self.manifest.classes)
        y, x = np.mgrid[: rule.height, : rule.width]
        distance = np.hypot(x + 0.5 - rule.width / 2, y + 0.5 - rule.height / 2)
        flat = latent.reshape(len(latent), -1)
        spread = np.maximum(np.sqrt(np.square(flat).mean(axis=1)), np.finfo(np.float32).tiny)
        score = np.sqrt(flat.shape[1]) * flat.mean(axis=1) / spread  # about standard normal for any sampler
        radius = RADIUS * min(rule.height, rule.width) * (1.0 + 0.15 * np.tanh(score))
        depth = 4.0 * (radius[:, None, None] - distance)  # (N, H, W), positive inside
        if classes == 1:
            return np.asarray(depth[:, None], np.float32)
        width = 4.0 * radius[:, None, None] / classes
        rings = [0.5 * width - np.abs(depth - (classes - k - 0.5) * width) for k in range(classes)]
        return np.stack([np.zeros_like(depth), *rings], axis=1).astype(np.float32)


def toy_manifest(
    *,
    classes: tuple[str, ...] = ("nodule",),
    geometry: Literal["resize", "native"] = "native",
    channels: Literal[1, 3] = 1,
    objective: Objective = "flow",
) -> Manifest:
    """Return the manifest of a toy model: a 64 x 64 field, and for `native` a context of 128.

    It has no files, so `Bundle.load` cannot read it.
    """
    side = 64
    signatures = graph_signatures(
        image=(channels, side, side),
        condition=(1, *LATENT[1:]),
        latent=LATENT,
        time_features=TIME_FEATURES,
        num_logits=1 if len(classes) == 1 else len(classes) + 1,
    )
    return Manifest(
        name="toy",
        task="discs in the middle of any image, for tests",
        classes=classes,
        input=InputRule(
            channels=channels,
            height=side,
            width=side,
            geometry=geometry,
            intensity="minmax",
            context=2 * side if geometry == "native" else 0,
        ),
        latent=LATENT,
        path=ProbabilityPath(objective=objective),
        sampling=Sampling(sampler="euler" if objective == "flow" else "ddim", steps=4, noise=NoiseLaw(antithetic=True)),
        graphs={name: _graph(name, signature) for name, signature in signatures.items()},
        intended_use="tests of software",
    )


def toy_segmenter(manifest: Manifest | None = None) -> Segmenter:
    """Return a segmenter on a `FakeBackend`; its calls are in `segmenter.backend.calls`."""
    manifest = manifest or toy_manifest()
    return Segmenter(manifest, FakeBackend(manifest), bundle_sha256="0" * 64)


def _graph(name: GraphName, signature: Signature) -> Graph:
    return Graph(
        file=f"{name}.onnx",
        sha256="0" * 64,
        opset=21,
        precision="float32",
        weights="float32",
        inputs=signature.inputs,
        outputs=signature.outputs,
    )
