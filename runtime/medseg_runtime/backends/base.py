"""The interface of every backend, and what all backends share.

Who owns which buffer, and why clones may run side by side:

    the backend that was loaded     the compiled graphs. Clones only read them; where an inference library cannot run one graph in
                                    two threads, a lock next to it makes the calls take turns
    each backend and each clone     the arrays or device memory that its calls read and write, and what is bound to them.
                                    `clone` makes them anew and never copies them
    the caller                      every array that is passed in or returned: a backend copies what it keeps, and returns arrays
                                    that it does not write to again

So two threads on two clones share no buffer that either writes to. Two threads on one backend share its buffers, and would read
each other's latents: one backend serves one call at a time.
"""

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
    """Run the three graphs of one bundle, one call at a time. Each further thread needs a `clone`.

    Condition and latents may stay on the device: pass them back to the backend that returned them. Only logits are always arrays.
    """

    name: str
    version: str
    precision: Precision
    """Type of the network's arithmetic."""
    why: str
    """Why this backend runs in this precision, as one clause."""

    @property
    def compiled(self) -> dict[str, str]:
        """What runs where that is not the graphs of the bundle, but compiled from them earlier: name -> SHA-256."""
        return {}

    def encode(self, image: Float32) -> Any:
        """Image (1, C, H, W) in [0, 1] => the condition of all its samples.

        Raises:
            BackendError: the backend failed, returned NaN, or is closed. The same holds for `denoise` and `decode`.
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
        """Noise (N, Z, h, w) => N clean latents, in the S steps of a sampler's table.

        features: (S, T) of the network times, from `sampler.time_features`.
        fresh: returns the next noise (N, Z, h, w) where the table's `extra` is noise; called once per step, in order.
        """
        ...

    def decode(self, latents: Any) -> Float32:
        """Latents => mask logits (N, K, H, W)."""
        ...

    def clone(self) -> Backend:
        """Return another backend on the same compiled graphs, with its own buffers, for another thread.

        Raises:
            BackendError: the backend is closed, or the device has too little free memory.
        """
        ...

    def close(self) -> None:
        """Free this backend's buffers. A backend that was loaded, not cloned, frees the graphs too and so closes its clones.

        Every later call raises BackendError. Closing twice does nothing.
        """
        ...


class BackendClass(Protocol):
    """A class of `registry.BACKENDS`: loads a bundle."""

    version: str

    def __call__(self, bundle: Bundle, *, precision: PrecisionName = "auto", threads: int | None = None) -> Backend:
        """Load a bundle.

        precision: `auto` takes the first of `precisions`.
        threads: CPU threads of one call; None leaves the number to the inference library. Clones run `calls_at_once(threads)`
            calls side by side.

        Raises:
            ParameterError: this machine does not compute in that precision.
            BackendError: the inference library refuses the graphs, or is not the one expected.
        """
        ...

    def precisions(self) -> tuple[Precision, ...]:
        """Return the precisions that this machine computes in, the default first."""
        ...


class GpuBackendClass(Protocol):
    """A `BackendClass` of a GPU, whose kernels may be launched as CUDA graphs."""

    def __call__(
        self, bundle: Bundle, *, precision: PrecisionName = "auto", threads: int | None = None, cuda_graphs: bool = True
    ) -> Backend:
        """Load a bundle; see `BackendClass`. cuda_graphs: False launches every kernel by itself."""
        ...


def finite(backend: str, graph: str, values: Float32) -> Float32:
    """Return a graph's output, checked. NaN survives every step, so the last step of the denoiser is enough.

    Raises:
        BackendError: some values are NaN or infinite.
    """
    if not np.isfinite(values).all():
        raise BackendError(
            f"{backend} returned NaN or infinite values from the {graph}",
            "Try another --backend, and report the bundle.",
        )
    return values


def closed_error(backend: str) -> BackendError:
    """Return the error of a call to a closed backend."""
    return BackendError(f"the {backend} backend is closed", "Load the bundle again.")


def chosen_precision(name: str, wanted: PrecisionName, possible: Iterable[Precision]) -> Precision:
    """Return the precision to run in: the one asked for, or the first possible one for `auto`.

    Raises:
        ParameterError: this machine does not compute in it.
    """
    first, *others = possible
    for precision in (first, *others):
        if wanted in ("auto", precision):
            return precision
    raise ParameterError(
        f"{name} does not multiply in {wanted} on this machine", f"Use --precision {first}, or another --backend."
    )
