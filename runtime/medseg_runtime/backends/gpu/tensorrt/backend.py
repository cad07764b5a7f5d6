"""TensorRT or TensorRT-RTX on an NVIDIA GPU: engines that `medseg-export build` made, and a sampling loop that stays on the device.

`decode` copies image and noise to the GPU in one piece, queues the encoder, S denoiser steps and the decoder, and copies the logits
back in one piece: from the second image of a kind on as one CUDA graph. See `deferred` for what that means for errors and timings.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from medseg_runtime.backends.base import PrecisionName
from medseg_runtime.backends.gpu.capture_policy import CapturePolicy
from medseg_runtime.backends.gpu.device_loop import DeviceLoop, refuse_threads
from medseg_runtime.backends.gpu.tensorrt.engine import LoadedEngines
from medseg_runtime.backends.gpu.tensorrt.engine_files import BUILD_OPTION, Engines, open_engines
from medseg_runtime.backends.gpu.tensorrt.stream import TensorRtStream
from medseg_runtime.errors import BackendError, EngineError, ParameterError
from medseg_runtime.machine.gpu import find_gpu
from medseg_runtime.model.bundle import Bundle, Manifest, Precision


def _installed() -> list[str]:
    """Return the libraries that are installed with their versions, without loading them: that takes a second."""
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
    """What a backend and its clones have in common."""

    engines: LoadedEngines
    manifest: Manifest
    policy: CapturePolicy
    streams: weakref.WeakSet[TensorRtStream] = field(default_factory=weakref.WeakSet)

    def new_stream(self) -> TensorRtStream:
        stream = TensorRtStream(self.engines, self.manifest, self.policy)
        self.streams.add(stream)
        return stream

    def close(self) -> None:
        for stream in list(self.streams):
            stream.close()
        self.engines.close()


class TensorRtBackend(DeviceLoop):
    """The engines of a bundle that fit the library and the GPU of this machine; clones share them, each on a stream of its own."""

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

        precision: they have the one that they were built in; another is refused.
        threads: of no use here, and refused.
        cuda_graphs: False launches every kernel one by one.

        Raises:
            ParameterError: another precision is wanted, or threads are.
            EngineError: no GPU, or no engines that fit; says how to build them.
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
        loaded = LoadedEngines(engines, library, bundle.manifest)
        self._shared = _Shared(loaded, bundle.manifest, CapturePolicy(cuda_graphs))
        self._is_clone = False
        self._open_stream()

    @classmethod
    def precisions(cls) -> tuple[Precision, ...]:
        """Return what engines may have been built in; nothing without a GPU."""
        try:
            find_gpu()
        except EngineError:
            return ()
        return ("float16", "bfloat16", "float32")

    @property
    def why(self) -> str:  # type: ignore[override]  # a property, as graphs may fail later
        """Which engines run, and how they are launched."""
        return f"engines {self._shared.engines.record.target}, launched {self._shared.policy.launches}"

    def clone(self) -> TensorRtBackend:
        """Return another one on the same engines, with a stream and memory of its own.

        Raises:
            BackendError: the GPU has too little free memory for it.
        """
        twin = object.__new__(type(self))
        twin.version, twin.precision, twin._shared = self.version, self.precision, self._shared
        twin._is_clone = True
        twin._open_stream()
        return twin

    def close(self) -> None:
        """Free this clone's part; from the one that was loaded, the engines and all clones."""
        if self._is_clone:
            self._stream.close()
        else:
            self._shared.close()

    def _open_stream(self) -> None:
        self._stream = self._shared.new_stream()
        weakref.finalize(
            self, self._stream.close
        ).atexit = False  # a clone that a thread forgot; at exit the driver frees all


def _find(bundle: Bundle) -> tuple[Any, Engines]:
    """Return the library and the engines that fit it and the GPU; of two libraries, the one that has engines."""
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
    raise refusals[0]  # TensorRT's before TensorRT-RTX's


def _imported(name: str) -> Any | None:
    try:
        return import_module(name)
    except ImportError:
        return None
