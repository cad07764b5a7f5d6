"""Memory, streams and graphs of an NVIDIA GPU, by way of `cuda.bindings`: every error code is checked, everything is freed once.

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
"""Bytes: TensorRT takes only addresses aligned to it, and cudaMalloc returns no others."""


def call(function: Callable[..., tuple[Any, ...]], *arguments: Any) -> Any:
    """Call a function of the CUDA runtime, and return its value without the error code; None if it has none.

    Raises:
        BackendError: the error code is not cudaSuccess.
    """
    error, *values = function(*arguments)
    if error != cudart.cudaError_t.cudaSuccess:
        raise BackendError(
            f"{function.__name__} failed on the GPU: {error.name}",
            "Check with `nvidia-smi` that the driver answers and that memory is free, and try again.",
        )
    return values[0] if values else None


def check_current_device() -> None:
    """Refuse any GPU but CUDA device 0, which the engines were checked against.

    Raises:
        BackendError: another device is current in this thread.
    """
    device = call(cudart.cudaGetDevice)
    if device != 0:
        raise BackendError(
            f"CUDA device {device} is current in this thread, and engines run on device 0",
            f"Start the process with CUDA_VISIBLE_DEVICES={device}.",
        )


class DeviceMemory:
    """A block of uninitialized GPU memory."""

    def __init__(self, size: int) -> None:
        self.pointer: int = call(cudart.cudaMalloc, size)

    def close(self) -> None:
        """Free it. Closing twice does nothing."""
        pointer, self.pointer = self.pointer, 0
        if pointer:
            call(cudart.cudaFree, pointer)


class PinnedMemory:
    """A block of page-locked host memory. Copies from and to any other host memory block the host."""

    def __init__(self, size: int) -> None:
        self.pointer: int = call(cudart.cudaHostAlloc, size, cudart.cudaHostAllocDefault)
        self._size = size

    def floats(self, offset: int, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        """Return a float32 array in this memory, `offset` bytes from its start. It is invalid after `close`."""
        count = int(np.prod(shape))
        if offset + 4 * count > self._size:
            raise IndexError(f"{shape} at {offset} reaches beyond {self._size} bytes")
        raw = (ctypes.c_float * count).from_address(self.pointer + offset)
        return np.ctypeslib.as_array(raw).reshape(shape)

    def close(self) -> None:
        """Free it. Closing twice does nothing."""
        pointer, self.pointer = self.pointer, 0
        if pointer:
            call(cudart.cudaFreeHost, pointer)


class Graph:
    """A CUDA graph: launches captured from a stream, which one call queues."""

    def __init__(self, captured: Any) -> None:
        try:
            self._executable: Any = call(cudart.cudaGraphInstantiate, captured, 0)
        finally:
            call(cudart.cudaGraphDestroy, captured)

    def launch(self, stream: Stream) -> None:
        """Queue all launches."""
        call(cudart.cudaGraphLaunch, self._executable, stream.handle)

    def close(self) -> None:
        """Destroy it. Closing twice does nothing."""
        executable, self._executable = self._executable, None
        if executable is not None:
            call(cudart.cudaGraphExecDestroy, executable)


class Stream:
    """A CUDA stream that does not synchronize with the default stream."""

    def __init__(self) -> None:
        self.handle: Any = call(cudart.cudaStreamCreateWithFlags, cudart.cudaStreamNonBlocking)

    def upload(self, device: int, pinned: int, size: int) -> None:
        """Queue a copy to the GPU. The source must not change until `wait`."""
        kind = cudart.cudaMemcpyKind.cudaMemcpyHostToDevice
        call(cudart.cudaMemcpyAsync, device, pinned, size, kind, self.handle)

    def download(self, pinned: int, device: int, size: int) -> None:
        """Queue a copy from the GPU. It is complete after `wait`."""
        kind = cudart.cudaMemcpyKind.cudaMemcpyDeviceToHost
        call(cudart.cudaMemcpyAsync, pinned, device, size, kind, self.handle)

    def clear(self, device: int, size: int) -> None:
        """Queue zeros."""
        call(cudart.cudaMemsetAsync, device, 0, size, self.handle)

    def wait(self) -> None:
        """Wait until all queued work is done.

        Raises:
            BackendError: some of it failed.
        """
        call(cudart.cudaStreamSynchronize, self.handle)

    @contextmanager
    def capture(self) -> Iterator[list[Graph]]:
        """Record queued work instead of running it. After the block the list holds the graph.

        Raises:
            BackendError: a graph cannot hold what was queued.
        """
        graphs: list[Graph] = []
        # thread-local: calls of clones in other threads, such as allocations, do not break this capture
        call(cudart.cudaStreamBeginCapture, self.handle, cudart.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal)
        try:
            yield graphs
        except BaseException:
            self._abort_capture()
            raise
        graphs.append(Graph(call(cudart.cudaStreamEndCapture, self.handle)))

    def _abort_capture(self) -> None:
        """End a failed capture and drop its errors, which only repeat what failed."""
        _, partial = cudart.cudaStreamEndCapture(self.handle)
        if partial is not None and int(partial):
            call(cudart.cudaGraphDestroy, partial)
        cudart.cudaGetLastError()  # clears the error, which the next engine call would report as its own

    def close(self) -> None:
        """Destroy it. Closing twice does nothing."""
        handle, self.handle = self.handle, None
        if handle is not None:
            call(cudart.cudaStreamDestroy, handle)
