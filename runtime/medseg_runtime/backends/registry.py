"""Inference engines behind one small interface; a table says which there are, and each is imported on first use."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Literal, get_args

from medseg_runtime.backends.base import Backend, BackendClass, PrecisionName
from medseg_runtime.errors import BackendError, ParameterError
from medseg_runtime.model.bundle import Bundle, Precision


@dataclass(frozen=True, slots=True)
class BackendSpec:
    """Where a backend is, and what brings it."""

    module: str
    cls: str
    library: str
    """The package that it imports."""
    extra: str
    device: Literal["cpu", "gpu"]
    """`auto` measures the engines of the CPU against each other; one of a GPU runs only where it is asked for by name."""


BACKENDS: dict[str, BackendSpec] = {
    "onnxruntime": BackendSpec(
        "medseg_runtime.backends.onnxruntime_cpu", "OnnxRuntimeBackend", "onnxruntime", "cpu", "cpu"
    ),
    "openvino": BackendSpec(
        "medseg_runtime.backends.openvino.backend", "OpenVinoBackend", "openvino", "openvino", "cpu"
    ),
    "cuda": BackendSpec("medseg_runtime.backends.gpu.onnxruntime.backend", "CudaBackend", "onnxruntime", "gpu", "gpu"),
    "tensorrt": BackendSpec(
        "medseg_runtime.backends.gpu.tensorrt.backend", "TensorRtBackend", "tensorrt", "trt", "gpu"
    ),
}
"""By name, the reference first."""


def open_backend(
    name: str, bundle: Bundle, *, precision: str = "auto", threads: int | None = None, cuda_graphs: bool = True
) -> Backend:
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
        from medseg_runtime.backends.auto.select import open_fastest

        return open_fastest(bundle, precision=wanted, threads=threads)
    found = installed(name)
    if found is None:
        raise BackendError(f"{name} is not installed", f"Run `pip install 'medseglatdiff[{BACKENDS[name].extra}]'`.")
    return found(bundle, precision=wanted, threads=threads)


def _wanted(precision: str) -> PrecisionName:
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
