"""Ask NVIDIA's driver for the GPU, through the library that the driver installs: no CUDA, no package, no context.

TensorRT engines are tied to a compute capability. The builder records it, and the runner compares.
"""

from __future__ import annotations

import ctypes
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medseg_runtime.errors import EngineError

DRIVER = "libcuda.so.1"
DRIVER_FILE = Path("/proc/driver/nvidia/version")
MAJOR, MINOR = 75, 76
"""CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR of cuda.h."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Gpu:
    """CUDA device 0 of this process."""

    name: str
    compute_capability: int
    """86 is 8.6."""
    driver: str | None
    """Version of the kernel module; None where the system does not state it, as on Jetson."""
    cuda: str
    """Newest CUDA version that the driver runs."""


def find_gpu() -> Gpu:
    """Return the GPU that CUDA calls device 0.

    Raises:
        EngineError: no driver, or no GPU visible to this process.
    """
    try:
        library = ctypes.CDLL(DRIVER)
    except OSError as error:
        raise _no_gpu(f"NVIDIA's driver ({DRIVER}) is not installed") from error
    return query_driver(library)


def query_driver(library: Any) -> Gpu:
    """Ask the driver's library.

    library: `libcuda` as loaded by ctypes.

    Raises:
        EngineError: the driver reports an error, or no GPU.
    """
    count, device, version = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    name, capability = ctypes.create_string_buffer(256), (ctypes.c_int(), ctypes.c_int())
    _checked(library, "cuInit", 0)
    _checked(library, "cuDeviceGetCount", ctypes.byref(count))
    if not count.value:
        raise _no_gpu("the driver shows no GPU to this process")
    _checked(library, "cuDeviceGet", ctypes.byref(device), 0)
    _checked(library, "cuDeviceGetName", name, len(name), device)
    for number, attribute in zip(capability, (MAJOR, MINOR), strict=True):
        _checked(library, "cuDeviceGetAttribute", ctypes.byref(number), attribute, device)
    _checked(library, "cuDriverGetVersion", ctypes.byref(version))
    return Gpu(
        name=name.value.decode("utf-8", "replace"),
        compute_capability=10 * capability[0].value + capability[1].value,
        driver=driver_version(),
        cuda=f"{version.value // 1000}.{version.value % 1000 // 10}",
    )


def driver_version(file: Path = DRIVER_FILE) -> str | None:
    """Return the version of the kernel module, as nvidia-smi shows it."""
    text = file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""
    found = re.search(r"Kernel Module.*?\s(\d+\.\d[\d.]*)\s", text)
    return found[1] if found else None


def _checked(library: Any, function: str, *arguments: Any) -> None:
    code = getattr(library, function)(*arguments)
    if code:
        raise _no_gpu(f"NVIDIA's driver reports error {code} in {function}")


def _no_gpu(problem: str) -> EngineError:
    return EngineError(
        f"no NVIDIA GPU can be used: {problem}",
        "Run it on a machine with a GPU and its driver (`nvidia-smi` must list it).",
    )
