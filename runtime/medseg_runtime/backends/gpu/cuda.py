"""Memory, streams and graphs of an NVIDIA GPU, over `cuda.bindings`: each call's error code is honoured, each thing freed once.

The only module that imports `cuda`. Sizes are in bytes, pointers are integers.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
from cuda.bindings import runtime as cudart

from medseg_runtime.errors import BackendError

ALIGNMENT = 256
"""Of addresses that TensorRT takes, and of what cudaMalloc returns."""


def call(function: Callable[..., tuple[Any, ...]], *arguments: Any) -> Any:
    """Call a function of the CUDA runtime, and return what it returns behind its error code, if anything.

    Raises:
        BackendError: the code is not cudaSuccess.
    """
    error, *values = function(*arguments)
    if error != cudart.cudaError_t.cudaSuccess:
        raise BackendError(
            f"{function.__name__} failed on the GPU: {error.name}",
            "See with `nvidia-smi` whether its driver answers and its memory is free, and try again.",
        )
    return values[0] if values else None


def check_current_device() -> None:
    """Refuse to work on another GPU than the one that engines are checked against, CUDA's device 0.

    Raises:
        BackendError: the host process made another device current in this thread.
    """
    device = call(cudart.cudaGetDevice)
    if device != 0:
        raise BackendError(
            f"CUDA device {device} is current in this thread, and engines run on device 0",
            f"Start the process with CUDA_VISIBLE_DEVICES={device}.",
        )


class DeviceMemory:
    """A piece of the GPU's memory, uninitialised."""

    def __init__(self, size: int) -> None:
        self.pointer: int = call(cudart.cudaMalloc, size)

    def close(self) -> None:
        """Free it, once."""
        pointer, self.pointer = self.pointer, 0
        if pointer:
            call(cudart.cudaFree, pointer)


class PinnedMemory:
    """A piece of page-locked host memory, which alone the GPU copies from and to without stopping the host."""

    def __init__(self, size: int) -> None:
        self.pointer: int = call(cudart.cudaHostAlloc, size, cudart.cudaHostAllocDefault)
        self._size = size

    def floats(self, offset: int, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        """Return a float32 array that lies in this memory, `offset` bytes from its start; use it until `close`."""
        count = int(np.prod(shape))
        if offset + 4 * count > self._size:
            raise IndexError(f"{shape} at {offset} reaches beyond {self._size} bytes")
        raw = (ctypes.c_float * count).from_address(self.pointer + offset)
        return np.ctypeslib.as_array(raw).reshape(shape)

    def close(self) -> None:
        """Free it, once."""
        pointer, self.pointer = self.pointer, 0
        if pointer:
            call(cudart.cudaFreeHost, pointer)


class Graph:
    """Launches that were captured from a stream, ready to be launched together."""

    def __init__(self, captured: Any) -> None:
        try:
            self._executable: Any = call(cudart.cudaGraphInstantiate, captured, 0)
        finally:
            call(cudart.cudaGraphDestroy, captured)

    def launch(self, stream: Stream) -> None:
        """Queue all of them."""
        call(cudart.cudaGraphLaunch, self._executable, stream.handle)

    def close(self) -> None:
        """Destroy it, once."""
        executable, self._executable = self._executable, None
        if executable is not None:
            call(cudart.cudaGraphExecDestroy, executable)


class Stream:
    """A queue of work that no other stream waits for, not even the default one."""

    def __init__(self) -> None:
        self.handle: Any = call(cudart.cudaStreamCreateWithFlags, cudart.cudaStreamNonBlocking)

    def upload(self, device: int, pinned: int, size: int) -> None:
        """Queue a copy to the GPU; the source must not change until `wait`."""
        kind = cudart.cudaMemcpyKind.cudaMemcpyHostToDevice
        call(cudart.cudaMemcpyAsync, device, pinned, size, kind, self.handle)

    def download(self, pinned: int, device: int, size: int) -> None:
        """Queue a copy from the GPU; it has arrived after `wait`."""
        kind = cudart.cudaMemcpyKind.cudaMemcpyDeviceToHost
        call(cudart.cudaMemcpyAsync, pinned, device, size, kind, self.handle)

    def clear(self, device: int, size: int) -> None:
        """Queue zeros."""
        call(cudart.cudaMemsetAsync, device, 0, size, self.handle)

    def wait(self) -> None:
        """Return when all that was queued is done.

        Raises:
            BackendError: some of it failed.
        """
        call(cudart.cudaStreamSynchronize, self.handle)

    @contextmanager
    def capture(self) -> Iterator[list[Graph]]:
        """Record what is queued instead of running it; afterwards the list holds the graph.

        Raises:
            BackendError: something was queued that a graph cannot hold.
        """
        graphs: list[Graph] = []
        # thread-local: what clones do in other threads meanwhile, such as allocating, does not spoil this capture
        call(cudart.cudaStreamBeginCapture, self.handle, cudart.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal)
        try:
            yield graphs
        except BaseException:
            self._break_off()
            raise
        graphs.append(Graph(call(cudart.cudaStreamEndCapture, self.handle)))

    def _break_off(self) -> None:
        """Leave a capture that failed; its errors were those of what failed, and are dropped."""
        _, half = cudart.cudaStreamEndCapture(self.handle)
        if half is not None and int(half):
            call(cudart.cudaGraphDestroy, half)
        cudart.cudaGetLastError()  # CUDA remembers the error, and an engine would take it for its own

    def close(self) -> None:
        """Destroy it, once."""
        handle, self.handle = self.handle, None
        if handle is not None:
            call(cudart.cudaStreamDestroy, handle)
