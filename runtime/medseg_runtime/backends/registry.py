"""The table of backends. Each is imported on first use."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Literal, cast

from medseg_runtime.backends.base import Backend, BackendClass, GpuBackendClass, PrecisionName
from medseg_runtime.errors import BackendError
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


def load_backend(
    name: str, bundle: Bundle, *, precision: PrecisionName, threads: int | None = None, cuda_graphs: bool = True
) -> Backend:
    """Load a bundle into the backend of this name.

    Raises:
        ParameterError: the backend does not have an option here.
        BackendError: the backend is not installed, or refuses the graphs.
    """
    spec, found = BACKENDS[name], installed(name)
    if found is None:
        raise BackendError(f"{name} is not installed", f"Run `pip install 'medseglatdiff[{spec.extra}]'`.")
    if spec.device == "gpu":
        return cast("GpuBackendClass", found)(bundle, precision=precision, threads=threads, cuda_graphs=cuda_graphs)
    return found(bundle, precision=precision, threads=threads)


def installed(name: str) -> BackendClass | None:
    """Import the class of a backend; None where its library is missing."""
    spec = BACKENDS[name]
    try:
        found: BackendClass = getattr(import_module(spec.module), spec.cls)
    except (ImportError, AttributeError):  # AttributeError: a damaged package, which medseg-doctor explains
        return None
    return found
