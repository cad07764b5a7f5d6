"""The sampling loop for engines that take arrays and return arrays: all of them but those that keep latents on a device."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Self

import numpy as np

from medseg_runtime.backends.base import Backend, Float32, finite
from medseg_runtime.errors import BackendError
from medseg_runtime.model.bundle import Graph
from medseg_runtime.model.sampler import SamplerTable
from medseg_runtime.model.signatures import GraphName, Shape

FoundShapes = Mapping[str, tuple[bool, Sequence[int | str | None]]]
"""Name -> whether it is float32, and its sides; a side that varies is a name or None."""
Arrays = dict[str, Float32]
BoundCall = Callable[[], None]


class HostLoop(Backend):
    """Encode, denoise and decode, given an engine that runs one graph."""

    why = "it was asked for"

    @abstractmethod
    def run(self, graph: GraphName, feeds: Arrays) -> tuple[Float32, ...]:
        """Run a graph on float32 arrays, named and shaped as in bundle.json, and return its outputs in that order.

        Raises:
            BackendError: the engine failed.
        """

    def encode(self, image: Float32) -> Float32:
        (condition,) = self.run("encoder", {"image": image})
        return finite(self.name, "encoder", condition)

    def denoise(
        self,
        condition: Float32,
        noise: Float32,
        table: SamplerTable,
        features: Float32,
        fresh: Callable[[], Float32],
    ) -> Float32:
        latent, extra = noise, np.zeros_like(noise)
        rows = table.rows.astype(np.float32)
        for step in range(len(table)):
            if table.extra == "noise":
                extra = fresh()
            feeds = {
                "latent": latent,
                "extra": extra,
                "condition": condition,
                "time_features": features[step : step + 1],
                "row": rows[step],
            }
            latent, denoised = self.run("denoiser", feeds)
            if table.extra == "previous":
                extra = denoised
        return finite(self.name, "denoiser", latent)

    def decode(self, latents: Float32) -> Float32:
        (logits,) = self.run("decoder", {"latent": latents})
        return finite(self.name, "decoder", logits)


class BoundLoop(HostLoop):
    """The same for engines that read from and write into arrays which are bound once: no step allocates anything.

    Not for two threads at once; `clone` makes another with arrays of its own.
    """

    graphs: dict[GraphName, Graph]
    """What bundle.json says of each."""
    _steps: _Steps | None = None

    def clone(self) -> Self:
        """Return another on the same compiled graphs."""
        other = copy.copy(self)
        other._steps = None  # noqa: SLF001 - another of this class
        return other

    @abstractmethod
    def bind(self, graph: GraphName, inputs: Arrays, outputs: Arrays) -> BoundCall:
        """Return a call that runs a graph from and into these arrays, again and again.

        inputs, outputs: C-contiguous and writeable, named and shaped as in bundle.json. The caller keeps them as long as the
            call: an engine knows no more than their addresses.

        Raises:
            BackendError: the engine failed; the call raises it too.
        """

    def run(self, graph: GraphName, feeds: Arrays) -> tuple[Float32, ...]:
        """Run a graph once; see `HostLoop.run`."""
        batch = len(feeds.get("latent", [0]))
        outputs = {
            name: np.empty(_sized(shape, batch), np.float32) for name, shape in self.graphs[graph].outputs.items()
        }
        # held until the call has ended: the engine knows their addresses alone
        inputs = {name: np.require(array, np.float32, ["C", "W"]) for name, array in feeds.items()}
        self.bind(graph, inputs, outputs)()
        return tuple(outputs.values())

    def denoise(
        self,
        condition: Float32,
        noise: Float32,
        table: SamplerTable,
        features: Float32,
        fresh: Callable[[], Float32],
    ) -> Float32:
        feeds_back = table.extra == "previous"
        if self._steps is None or not self._steps.fit(len(noise), feeds_back=feeds_back):
            self._steps = _Steps(self, len(noise), feeds_back=feeds_back)
        return finite(self.name, "denoiser", self._steps.swing(condition, noise, table, features, fresh))


class _Steps:
    """The denoiser's arrays at one batch, and the two calls between which its latents swing.

    even steps    latents[0] => latents[1], denoised[1]
    odd steps     latents[1] => latents[0], denoised[0]
    """

    def __init__(self, backend: BoundLoop, batch: int, *, feeds_back: bool) -> None:
        """Bind the arrays.

        feeds_back: `extra` is what the step before wrote to `denoised`; otherwise an array of its own.
        """
        graph = backend.graphs["denoiser"]
        self._batch, self._feeds_back = batch, feeds_back
        self._given = {
            name: np.zeros(_sized(shape, batch), np.float32) for name, shape in graph.inputs.items() if name != "latent"
        }
        self._latents, self._denoised = np.zeros((2, 2, *_sized(graph.inputs["latent"], batch)), np.float32)
        self._calls = [self._bound(backend, source) for source in (0, 1)]

    def fit(self, batch: int, *, feeds_back: bool) -> bool:
        """Tell whether these arrays serve a batch."""
        return (batch, feeds_back) == (self._batch, self._feeds_back)

    def _bound(self, backend: BoundLoop, source: int) -> BoundCall:
        inputs = self._given | {"latent": self._latents[source]}
        if self._feeds_back:
            inputs["extra"] = self._denoised[source]
        outputs = {"next_latent": self._latents[1 - source], "denoised": self._denoised[1 - source]}
        return backend.bind("denoiser", inputs, outputs)

    def swing(
        self, condition: Float32, noise: Float32, table: SamplerTable, features: Float32, fresh: Callable[[], Float32]
    ) -> Float32:
        """Take all steps; see `Backend.denoise`. The latents returned are the caller's own."""
        self._latents[0], self._given["condition"][:] = noise, condition
        self._given["extra"][:] = self._denoised[0] = 0.0  # the last image's may be NaN, and 0 x NaN is not 0
        for step in range(len(table)):
            if table.extra == "noise":
                self._given["extra"][:] = fresh()
            self._given["time_features"][0], self._given["row"][:] = features[step], table.rows[step]
            self._calls[step % 2]()
        return np.array(self._latents[len(table) % 2])


def one_line(error: Exception) -> str:
    """Return what an engine's exception says, as one clause."""
    return " ".join(str(error).split()).rstrip(" .")


def check_signature(graph: GraphName, expected: Graph, inputs: FoundShapes, outputs: FoundShapes) -> None:
    """Hold what an engine found in a graph against bundle.json; where the graph leaves a side open, bundle.json may fix it.

    Raises:
        BackendError: they differ.
    """
    if not (_fits(inputs, expected.inputs) and _fits(outputs, expected.outputs)):
        raise BackendError(
            f"{graph}.onnx has inputs and outputs {_shown(inputs)}, {_shown(outputs)}, not those of bundle.json",
            "Export the bundle again with `medseg-export`.",
        )


def _fits(found: FoundShapes, expected: dict[str, Shape]) -> bool:
    return found.keys() == expected.keys() and all(
        is_float32
        and len(sides) == len(expected[name])
        and all(not isinstance(side, int) or side == wanted for side, wanted in zip(sides, expected[name], strict=True))
        for name, (is_float32, sides) in found.items()
    )


def _shown(found: FoundShapes) -> str:
    return ", ".join(f"{name} {list(sides)}{'' if known else ' not float32'}" for name, (known, sides) in found.items())


def _sized(shape: Shape, batch: int) -> list[int]:
    return [batch if side == "N" else side for side in shape]
