"""The table of backends. Each is imported on first use."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Literal, cast, get_args

from medseg_runtime.backends.base import Backend, BackendClass, GpuBackendClass, PrecisionName
from medseg_runtime.errors import BackendError, ParameterError
from medseg_runtime.model.bundle import Bundle


@dataclass(frozen=True, slots=True)
class BackendSpec:
    """Where a backend is, and what installs it."""

    module: str
    cls: str
    library: str
    """The inference library that it imports."""
    extra: str
    """The extra of medseglatdiff that installs the library."""
    device: Literal["cpu", "gpu"]
    """`auto` compares the CPU backends. A GPU backend runs only when it is named."""


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
    """Load a bundle into a backend.

    name: a key of `BACKENDS`, or `auto` for the fastest on this CPU (see `auto.select`).
    precision: `auto`, or one of `bundle.Precision`.
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
    on_gpu = name in BACKENDS and BACKENDS[name].device == "gpu"
    if not (cuda_graphs or on_gpu):
        raise ParameterError(
            f"the {name} backend runs on the CPU and has no CUDA graphs",
            "Leave out cuda_graphs=False (--no-cuda-graphs), or use --backend cuda or tensorrt.",
        )
    if name == "auto":
        from medseg_runtime.backends.auto.select import open_fastest

        return open_fastest(bundle, precision=known, threads=threads)
    found = installed(name)
    if found is None:
        raise BackendError(f"{name} is not installed", f"Run `pip install 'medseglatdiff[{BACKENDS[name].extra}]'`.")
    if on_gpu:
        return cast("GpuBackendClass", found)(bundle, precision=known, threads=threads, cuda_graphs=cuda_graphs)
    return found(bundle, precision=known, threads=threads)


def _known_precision(precision: str) -> PrecisionName:
    names: tuple[PrecisionName, ...] = get_args(PrecisionName)
    for name in names:
        if name == precision:
            return name
    raise ParameterError(f"there is no precision {precision!r}", f"Use one of: {', '.join(names)}.")


def installed(name: str) -> BackendClass | None:
    """Import the class of a backend; None where its library is missing."""
    spec = BACKENDS[name]
    try:
        found: BackendClass = getattr(import_module(spec.module), spec.cls)
    except (ImportError, AttributeError):  # AttributeError: a damaged package, which medseg-doctor explains
        return None
    return found
