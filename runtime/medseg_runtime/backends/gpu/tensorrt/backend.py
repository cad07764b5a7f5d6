"""TensorRT or TensorRT-RTX on an NVIDIA GPU: engines from `medseg-export build`, and a sampling loop that stays on the device.

`decode` uploads image and noise in one copy, queues the encoder, S denoiser steps and the decoder, and downloads the logits in one
copy; from the second image of a kind on all of this is one CUDA graph. `device_loop` says what that means for errors and timings.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from threading import Lock
from typing import Any

from medseg_runtime.backends.base import PrecisionName, closed_error
from medseg_runtime.backends.gpu.capture_policy import CapturePolicy
from medseg_runtime.backends.gpu.device_loop import DeviceLoop, refuse_threads
from medseg_runtime.backends.gpu.tensorrt.engine import LoadedEngines
from medseg_runtime.backends.gpu.tensorrt.engine_files import BUILD_OPTION, Engines, open_engines
from medseg_runtime.backends.gpu.tensorrt.stream import TensorRtStream
from medseg_runtime.errors import BackendError, EngineError, ParameterError
from medseg_runtime.machine.gpu import find_gpu
from medseg_runtime.model.bundle import Bundle, Manifest, Precision


def _installed() -> list[str]:
    """Return the installed libraries with their versions. Do not import them, which takes a second."""
    found = []
    for name in BUILD_OPTION:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    if not found:
        raise ModuleNotFoundError("neither tensorrt nor tensorrt_rtx is installed", name="tensorrt")
    return found


@dataclass(slots=True)
class _Shared:
    """What a backend and its clones share."""

    engines: LoadedEngines
    manifest: Manifest
    policy: CapturePolicy
    closed: bool = False
    lock: Lock = field(default_factory=Lock)
    """Guards `closed` and `streams`: a stream is never made on engines that were closed meanwhile."""
    streams: weakref.WeakSet[TensorRtStream] = field(default_factory=weakref.WeakSet)

    def new_stream(self) -> TensorRtStream:
        with self.lock:
            if self.closed:
                raise closed_error("tensorrt")
            stream = TensorRtStream(self.engines, self.manifest, self.policy)
            self.streams.add(stream)
            return stream

    def close(self) -> None:
        with self.lock:
            self.closed = True
            for stream in list(self.streams):
                stream.close()
            self.engines.close()


class TensorRtBackend(DeviceLoop):
    """The engines of a bundle that fit this machine's library and GPU. Clones share them, each with its own CUDA stream and memory."""

    name = "tensorrt"
    version: str = ", ".join(_installed())

    def __init__(
        self,
        bundle: Bundle,
        *,
        precision: PrecisionName = "auto",
        threads: int | None = None,
        cuda_graphs: bool = True,
    ) -> None:
        """Load the engines.

        precision: the one that the engines were built in, or `auto`.
        threads: refused, because the CPU computes nothing.
        cuda_graphs: False launches every kernel by itself.

        Raises:
            ParameterError: another precision, or threads are given.
            EngineError: no GPU, or no engines that fit. The message names the command that builds them.
            BackendError: no TensorRT, or too little free memory on the GPU.
        """
        refuse_threads(self.name, threads)
        library, engines = _find(bundle)
        record = engines.record
        if precision not in ("auto", record.precision):
            raise ParameterError(
                f"the TensorRT engines compute in {record.precision}, not in {precision}",
                f"Use precision {record.precision} or auto, or build others with `medseg-export build`.",
            )
        self.version = f"{record.library} {library.__version__}"
        self.precision = record.precision
        loaded = LoadedEngines(engines, library, bundle.manifest, host_code=bundle.trusted)
        self._shared = _Shared(loaded, bundle.manifest, CapturePolicy(cuda_graphs))
        self._is_clone = False
        self._open_stream()

    @classmethod
    def precisions(cls) -> tuple[Precision, ...]:
        """Return the precisions that engines can be built in; none without a GPU."""
        try:
            find_gpu()
        except EngineError:
            return ()
        return ("float16", "bfloat16", "float32")

    @property
    def why(self) -> str:  # type: ignore[override]  # a property, as graphs may fail later
        """Which engines run, and how their kernels are launched."""
        return f"engines {self._shared.engines.record.target}, launched {self._shared.policy.launches}"

    @property
    def compiled(self) -> dict[str, str]:
        """The plans and their SHA-256."""
        return {plan.file: plan.sha256 for plan in self._shared.engines.record.plans.values()}

    def clone(self) -> TensorRtBackend:
        """Return another backend on the same engines, with its own CUDA stream and memory.

        Raises:
            BackendError: the GPU has too little free memory, or the backend is closed.
        """
        self._stream.check_open()
        other = object.__new__(type(self))
        other.version, other.precision, other._shared = self.version, self.precision, self._shared
        other._is_clone = True
        other._open_stream()
        return other

    def close(self) -> None:
        """Free the stream and memory, and unless this is a clone the engines and all clones; wait for running calls."""
        if self._is_clone:
            self._stream.close()
        else:
            self._shared.close()

    def _open_stream(self) -> None:
        self._stream = self._shared.new_stream()
        # frees a clone that was dropped without `close`; at exit the driver frees everything
        weakref.finalize(self, self._stream.close).atexit = False


def _find(bundle: Bundle) -> tuple[Any, Engines]:
    """Return the library and the engines that fit it and the GPU. Of two libraries take the first that has engines."""
    installed = [(name, library) for name in BUILD_OPTION if (library := _imported(name)) is not None]
    if not installed:
        raise BackendError(
            "neither tensorrt nor tensorrt_rtx is installed",
            "Run `pip install 'medseglatdiff[trt]'`, or `pip install 'medseglatdiff[trt-rtx]'` for an RTX workstation.",
        )
    gpu = find_gpu()
    refusals = []
    for name, library in installed:
        try:
            return library, open_engines(bundle, name, library.__version__, gpu.compute_capability)
        except EngineError as error:
            refusals.append(error)
    raise refusals[0]  # TensorRT's, before that of TensorRT-RTX


def _imported(name: str) -> Any | None:
    try:
        return import_module(name)
    except ImportError:
        return None
