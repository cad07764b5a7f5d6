"""The interface of every backend, and what all of them share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from medseg_runtime.errors import BackendError, ParameterError
from medseg_runtime.model.bundle import Bundle, Precision
from medseg_runtime.model.sampler import SamplerTable

Float32 = npt.NDArray[np.float32]
BackendName = Literal["auto", "onnxruntime", "openvino", "cuda", "tensorrt"]
PrecisionName = Literal["auto", "float32", "bfloat16", "float16"]


class Backend(Protocol):
    """Runs the three networks of one bundle, one call at a time; threads that want to run side by side take a `clone` each.

    A condition or latents may stay where the engine works: hand them back to the backend that made them, and look only at logits.
    """

    name: str
    version: str
    precision: Precision
    """What the networks multiply in."""
    why: str
    """One clause: why this engine in this precision; for whoever asks."""

    def encode(self, image: Float32) -> Any:
        """Image (1, C, H, W) in [0, 1] => the condition of all its samples.

        Raises:
            BackendError: the engine failed, or returned NaN; likewise of the two below.
        """
        ...

    def denoise(
        self,
        condition: Any,
        noise: Float32,
        table: SamplerTable,
        features: Float32,
        fresh: Callable[[], Float32],
    ) -> Any:
        """Noise (N, Z, h, w) => N clean latents, by the S rows of a sampler's table.

        features: (S, T) of the network times, from `sampler.time_features`.
        fresh: returns the next noise (N, Z, h, w) where the table's `extra` is noise; called once per row, in order.
        """
        ...

    def decode(self, latents: Any) -> Float32:
        """Latents => mask logits (N, K, H, W)."""
        ...

    def clone(self) -> Backend:
        """Return another one on the same weights, with buffers of its own, for another thread."""
        ...

    def close(self) -> None:
        """Give back what the engine holds; neither the backend nor its clones can be used afterwards."""
        ...


class BackendClass(Protocol):
    """What `BACKENDS` names: starts a backend."""

    version: str

    def __call__(self, bundle: Bundle, *, precision: PrecisionName = "auto", threads: int | None = None) -> Backend:
        """Start the engine on a bundle.

        precision: `auto` for the first of `precisions`.
        threads: of the CPU, that one call may use; None for as many as the engine thinks right. Calls of clones in several
            threads run side by side, `calls_at_once` of them.

        Raises:
            ParameterError: the engine does not multiply in that precision here.
            BackendError: the engine refuses the graphs, or is not what it should be.
        """
        ...

    def precisions(self) -> tuple[Precision, ...]:
        """Return what the engine can multiply in on this machine, that of `auto` first."""
        ...


def finite(backend: str, graph: str, values: Float32) -> Float32:
    """Return what a graph gave, if it is numbers; of the denoiser's steps the last one tells, for no step makes NaN a number again.

    Raises:
        BackendError: some are NaN or infinite.
    """
    if not np.isfinite(values).all():
        raise BackendError(
            f"{backend} returned NaN or infinite values from the {graph}",
            "Try another --backend, and report the bundle.",
        )
    return values


def chosen_precision(name: str, wanted: PrecisionName, possible: Iterable[Precision]) -> Precision:
    """Return the precision to run in: the wanted one, or of `auto` the first possible one.

    Raises:
        ParameterError: it is not possible on this machine.
    """
    first, *others = possible
    for precision in (first, *others):
        if wanted in ("auto", precision):
            return precision
    raise ParameterError(
        f"{name} does not multiply in {wanted} on this machine", f"Use --precision {first}, or another --backend."
    )
