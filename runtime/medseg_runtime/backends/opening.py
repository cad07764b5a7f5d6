"""Open a backend by name, or the fastest one."""

from __future__ import annotations

from typing import get_args

from medseg_runtime.backends.base import Backend, PrecisionName
from medseg_runtime.backends.registry import BACKENDS, load_backend
from medseg_runtime.errors import ParameterError
from medseg_runtime.model.bundle import Bundle


def open_backend(
    name: str, bundle: Bundle, *, precision: str = "auto", threads: int | None = None, cuda_graphs: bool = True
) -> Backend:
    """Load a bundle into a backend.

    name: a key of `BACKENDS`, or `auto` for the fastest on this CPU (see `auto.select`).
    precision: one of `PrecisionName`.
    threads: CPU threads of one call; None leaves the number to the inference library.
    cuda_graphs: False launches every kernel by itself. GPU backends only.

    Raises:
        ParameterError: no backend of that name, or an option that it does not have.
        BackendError: the backend is not installed, or refuses the graphs.
    """
    if name != "auto" and name not in BACKENDS:
        raise ParameterError(f"there is no backend {name!r}", f"Use one of: auto, {', '.join(BACKENDS)}.")
    known = _known_precision(precision)
    if threads is not None and threads < 1:
        raise ParameterError(f"{threads} threads is out of range", "Use 1 or more.")
    if not cuda_graphs and (name == "auto" or BACKENDS[name].device == "cpu"):
        raise ParameterError(
            f"the {name} backend runs on the CPU and has no CUDA graphs",
            "Leave out cuda_graphs=False (--no-cuda-graphs), or use --backend cuda or tensorrt.",
        )
    if name == "auto":
        from medseg_runtime.backends.auto.select import open_fastest

        return open_fastest(bundle, precision=known, threads=threads)
    return load_backend(name, bundle, precision=known, threads=threads, cuda_graphs=cuda_graphs)


def _known_precision(precision: str) -> PrecisionName:
    names: tuple[PrecisionName, ...] = get_args(PrecisionName)
    for name in names:
        if name == precision:
            return name
    raise ParameterError(f"there is no precision {precision!r}", f"Use one of: {', '.join(names)}.")
