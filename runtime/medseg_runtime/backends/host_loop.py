"""Sampling loops for backends that take arrays and return arrays. `gpu.device_loop` is for those that keep latents on a device."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Self

import numpy as np

from medseg_runtime.backends.base import Backend, Float32, closed_error, finite
from medseg_runtime.errors import BackendError
from medseg_runtime.machine.shortage import shortage
from medseg_runtime.model.bundle import Graph
from medseg_runtime.model.sampler import SamplerTable
from medseg_runtime.model.signatures import GraphName, Shape

FoundShapes = Mapping[str, tuple[bool, Sequence[int | str | None]]]
"""Name -> (is float32, sides); a side that varies is a name or None."""
Arrays = dict[str, Float32]
BoundCall = Callable[[], None]


class HostLoop(Backend):
    """Encode, denoise and decode with a library that runs one graph at a time."""

    why = "it was asked for"

    @abstractmethod
    def run(self, graph: GraphName, feeds: Arrays) -> tuple[Float32, ...]:
        """Run a graph on float32 arrays, named and shaped as in bundle.json, and return its outputs in that order.

        Raises:
            BackendError: the library failed, or the backend is closed.
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
    """A loop for libraries that read from and write to arrays bound once: no step allocates anything."""

    graphs: dict[GraphName, Graph]
    """As bundle.json describes them."""
    _is_clone = False
    _closed = False
    _denoiser: _BoundDenoiser | None = None
    """This backend's own arrays, for the batch that ran last."""

    def clone(self) -> Self:
        """Return another backend on the same compiled graphs, with its own arrays; see `Backend.clone`."""
        self.check_open()
        other = copy.copy(self)
        other._is_clone, other._denoiser = True, None  # noqa: SLF001 - of this class
        return other

    def close(self) -> None:
        """Drop the arrays, and the compiled graphs unless this is a clone; see `Backend.close`."""
        self._closed, self._denoiser = True, None
        if not self._is_clone:
            self.drop_graphs()

    @abstractmethod
    def drop_graphs(self) -> None:
        """Drop the compiled graphs. From then on `check_open` raises in all clones."""

    @abstractmethod
    def graphs_dropped(self) -> bool:
        """Tell whether the compiled graphs were dropped."""

    def check_open(self) -> None:
        """Refuse a call to a closed backend.

        Raises:
            BackendError: this backend is closed, or the one that it was cloned from.
        """
        if self._closed or self.graphs_dropped():
            raise closed_error(self.name)

    @abstractmethod
    def bind(self, graph: GraphName, inputs: Arrays, outputs: Arrays) -> BoundCall:
        """Return a function that runs a graph on these arrays, as often as it is called.

        inputs, outputs: C-contiguous and writeable, named and shaped as in bundle.json. The library knows only their addresses:
            the caller keeps them alive as long as the function.

        Raises:
            BackendError: the library failed. The function raises it too, and after `close`.
        """

    def run(self, graph: GraphName, feeds: Arrays) -> tuple[Float32, ...]:
        """Run a graph once; see `HostLoop.run`."""
        self.check_open()
        batch = len(feeds.get("latent", [0]))
        outputs = {
            name: np.empty(_sized(shape, batch), np.float32) for name, shape in self.graphs[graph].outputs.items()
        }
        # kept until the call has ended, because the library knows only their addresses
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
        self.check_open()
        feeds_back = table.extra == "previous"
        denoiser = self._denoiser
        if denoiser is None or not denoiser.fits(len(noise), feeds_back=feeds_back):
            denoiser = self._denoiser = _BoundDenoiser(self, len(noise), feeds_back=feeds_back)
        return finite(self.name, "denoiser", denoiser.sample(condition, noise, table, features, fresh))


class _BoundDenoiser:
    """The denoiser's arrays for one batch, and the two calls that take turns.

    even steps    latents[0] => latents[1], denoised[1]
    odd steps     latents[1] => latents[0], denoised[0]
    """

    def __init__(self, backend: BoundLoop, batch: int, *, feeds_back: bool) -> None:
        """Bind the arrays.

        feeds_back: `extra` is `denoised` of the step before; otherwise it is an array of its own.
        """
        graph = backend.graphs["denoiser"]
        self._batch, self._feeds_back = batch, feeds_back
        self._inputs = {
            name: np.zeros(_sized(shape, batch), np.float32) for name, shape in graph.inputs.items() if name != "latent"
        }
        self._latents, self._denoised = np.zeros((2, 2, *_sized(graph.inputs["latent"], batch)), np.float32)
        self._calls = [self._bound(backend, source) for source in (0, 1)]

    def fits(self, batch: int, *, feeds_back: bool) -> bool:
        """Tell whether the arrays are those of such a batch."""
        return (batch, feeds_back) == (self._batch, self._feeds_back)

    def _bound(self, backend: BoundLoop, source: int) -> BoundCall:
        inputs = self._inputs | {"latent": self._latents[source]}
        if self._feeds_back:
            inputs["extra"] = self._denoised[source]
        outputs = {"next_latent": self._latents[1 - source], "denoised": self._denoised[1 - source]}
        return backend.bind("denoiser", inputs, outputs)

    def sample(
        self, condition: Float32, noise: Float32, table: SamplerTable, features: Float32, fresh: Callable[[], Float32]
    ) -> Float32:
        """Take all steps; see `Backend.denoise`. Return a copy of the latents."""
        self._latents[0], self._inputs["condition"][:] = noise, condition
        self._inputs["extra"][:] = self._denoised[0] = 0.0  # the last image's may be NaN, and 0 x NaN is not 0
        for step in range(len(table)):
            if table.extra == "noise":
                self._inputs["extra"][:] = fresh()
            self._inputs["time_features"][0], self._inputs["row"][:] = features[step], table.rows[step]
            self._calls[step % 2]()
        return np.array(self._latents[len(table) % 2])


def one_line(error: Exception) -> str:
    """Return the message of a library's exception as one clause."""
    return " ".join(str(error).split()).rstrip(" .")


def failure(what: str, error: Exception, remedy: str) -> BackendError:
    """Return the error for a library's exception. what: the library, and what it could not do.

    remedy: unless it failed for want of threads or memory.
    """
    reason, better = shortage(error) or (one_line(error), remedy)
    return BackendError(f"{what}: {reason}", better)


def check_signature(graph: GraphName, expected: Graph, inputs: FoundShapes, outputs: FoundShapes) -> None:
    """Compare the inputs and outputs that a library found in a graph with bundle.json, which may fix a side that the graph leaves open.

    Raises:
        BackendError: they differ.
    """
    if not (_fits(inputs, expected.inputs) and _fits(outputs, expected.outputs)):
        raise BackendError(
            f"{graph}.onnx has inputs and outputs {_described(inputs)}, {_described(outputs)}, not those of bundle.json",
            "Export the bundle again with `medseg-export`.",
        )


def _fits(found: FoundShapes, expected: dict[str, Shape]) -> bool:
    return found.keys() == expected.keys() and all(
        is_float32
        and len(sides) == len(expected[name])
        and all(not isinstance(side, int) or side == other for side, other in zip(sides, expected[name], strict=True))
        for name, (is_float32, sides) in found.items()
    )


def _described(found: FoundShapes) -> str:
    return ", ".join(f"{name} {list(sides)}{'' if known else ' not float32'}" for name, (known, sides) in found.items())


def _sized(shape: Shape, batch: int) -> list[int]:
    return [batch if side == "N" else side for side in shape]
