"""The table of backends. Each is imported on first use."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Literal, cast

from medseg_runtime.backends.base import Backend, BackendClass, GpuBackendClass, PrecisionName
from medseg_runtime.errors import BackendError
from medseg_runtime.machine.memory import available_bytes
from medseg_runtime.machine.shortage import NO_MEMORY, shortage
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
LOADING_BYTES, LOADING_FACTOR = 56 << 20, 4
"""Memory that a CPU backend takes to load graphs and draw 16 samples: so much, and so many bytes for each byte of a graph."""


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
    check_room(sum(len(graph) for graph in bundle.graphs.values()))
    return found(bundle, precision=precision, threads=threads)


def check_room(graph_bytes: int) -> None:
    """Refuse to load graphs that would not fit into memory: Linux would kill the process.

    Raises:
        BackendError: they would not.
    """
    needed, free = LOADING_BYTES + LOADING_FACTOR * graph_bytes, available_bytes()
    if free is not None and free < needed:
        raise BackendError(
            f"loading the model needs about {needed >> 20} MiB of memory, and {free >> 20} are free", NO_MEMORY[1]
        )


def installed(name: str) -> BackendClass | None:
    """Import the class of a backend; None where its library is missing.

    Raises:
        BackendError: the library is there, and cannot be imported for want of threads or memory.
    """
    spec = BACKENDS[name]
    try:
        found: BackendClass = getattr(import_module(spec.module), spec.cls)
    except (
        ImportError,
        AttributeError,
        MemoryError,
    ) as error:  # AttributeError: a damaged package, which medseg-doctor explains
        short = None if isinstance(error, ModuleNotFoundError) else shortage(error)
        if short is not None:
            raise BackendError(f"{name} cannot be imported: {short[0]}", short[1]) from error
        return None
    return found
