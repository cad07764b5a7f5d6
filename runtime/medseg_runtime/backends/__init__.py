"""Inference engines behind one small interface; a table says which there are, and each is imported on first use."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal, Protocol, get_args

import numpy as np
import numpy.typing as npt

from medseg_runtime.bundle import Bundle, Precision
from medseg_runtime.errors import BackendError, ParameterError
from medseg_runtime.sampler import SamplerTable

Float32 = npt.NDArray[np.float32]
Wanted = Precision | Literal["auto"]


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

    def __call__(self, bundle: Bundle, *, precision: Wanted = "auto", threads: int | None = None) -> Backend:
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


@dataclass(frozen=True, slots=True)
class Engine:
    """Where a backend is, and what brings it."""

    module: str
    cls: str
    library: str
    """The package that it imports."""
    extra: str
    device: Literal["cpu", "gpu"]
    """`auto` measures the engines of the CPU against each other; one of a GPU runs only where it is asked for by name."""


MOST_AT_ONCE = 4
"""Calls side by side; each needs memory of its own."""

BACKENDS: dict[str, Engine] = {
    "onnxruntime": Engine("medseg_runtime.backends.onnxrt", "OnnxRuntimeBackend", "onnxruntime", "cpu", "cpu"),
    "openvino": Engine("medseg_runtime.backends.openvino", "OpenVinoBackend", "openvino", "openvino", "cpu"),
    "cuda": Engine("medseg_runtime.backends.cuda_onnxrt", "CudaBackend", "onnxruntime", "gpu", "gpu"),
    "tensorrt": Engine("medseg_runtime.backends.trt", "TensorRtBackend", "tensorrt", "trt", "gpu"),
}
"""By name, the reference first."""


def calls_at_once(threads: int | None) -> int:
    """Return how many calls on so many threads run side by side on this CPU; None: one call has them all."""
    return 1 if threads is None else max(1, min(num_processors() // threads, MOST_AT_ONCE))


def threads_for(images: int, backend: str) -> int | None:
    """Return how many threads one call should have where so many images are to be segmented.

    One image gets them all: None. Several are faster side by side than one after the other, with fewer threads each.
    """
    on_gpu = backend in BACKENDS and BACKENDS[backend].device == "gpu"
    side_by_side = min(images, num_processors(), MOST_AT_ONCE)
    return None if on_gpu or side_by_side <= 1 else num_processors() // side_by_side


def num_processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0))


def open_backend(name: str, bundle: Bundle, *, precision: str = "auto", threads: int | None = None) -> Backend:
    """Start an engine on a bundle.

    name: a key of `BACKENDS`, or `auto` for the fastest on this CPU (see `choose`).
    precision: `auto`, or one of `bundle.Precision`.
    threads: of the CPU, that one call may use; None for as many as the engine thinks right.

    Raises:
        ParameterError: no backend of that name, or no such precision there.
        BackendError: it is not installed, or refuses the graphs.
    """
    if name != "auto" and name not in BACKENDS:
        raise ParameterError(f"there is no backend {name!r}", f"Use one of: auto, {', '.join(BACKENDS)}.")
    wanted = _wanted(precision)
    if threads is not None and threads < 1:
        raise ParameterError(f"{threads} threads is out of range", "Use 1 or more.")
    if name == "auto":
        from medseg_runtime.backends.choose import open_fastest

        return open_fastest(bundle, precision=wanted, threads=threads)
    found = installed(name)
    if found is None:
        raise BackendError(f"{name} is not installed", f"Run `pip install 'medseglatdiff[{BACKENDS[name].extra}]'`.")
    return found(bundle, precision=wanted, threads=threads)


def _wanted(precision: str) -> Wanted:
    for known in ("auto", *get_args(Precision)):
        if known == precision:
            return known  # type: ignore[no-any-return]  # one of the literals
    raise ParameterError(f"there is no precision {precision!r}", f"Use one of: auto, {', '.join(get_args(Precision))}.")


def installed(name: str) -> BackendClass | None:
    """Import the class of a backend; None where its library is missing."""
    engine = BACKENDS[name]
    try:
        found: BackendClass = getattr(import_module(engine.module), engine.cls)
    except (ImportError, AttributeError):  # an AttributeError: a damaged package, which medseg-doctor explains
        return None
    return found


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


def settled_precision(name: str, wanted: Wanted, possible: Iterable[Precision]) -> Precision:
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
