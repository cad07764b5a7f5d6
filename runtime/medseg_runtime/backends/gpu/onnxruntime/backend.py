"""ONNX Runtime on an NVIDIA GPU: condition, latents, rows and time features stay on the device, and steps are CUDA graphs.

For GPUs without TensorRT engines. ONNX Runtime's own TensorRT provider is not offered: it builds engines at the first image without a
word, needs TensorRT 10 (the published wheels up to 1.31 link `libnvinfer.so.10`), and runs what the `tensorrt` backend runs.

ONNX Runtime falls back to the CPU silently in three cases, which are errors here: a package for the CPU has no CUDA provider, a
provider whose libraries are missing is left out of the session, and nodes that it cannot run go to the CPU.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, ClassVar

from medseg_runtime.backends.gpu.capture_policy import CapturePolicy
from medseg_runtime.backends.gpu.device_loop import DeviceLoop, refuse_threads
from medseg_runtime.backends.gpu.onnxruntime.stream import OnnxRuntimeStream
from medseg_runtime.backends.host_loop import check_signature, one_line
from medseg_runtime.backends.onnxruntime_cpu import ONLY_ONNX, edges
from medseg_runtime.backends.telemetry import no_telemetry
from medseg_runtime.errors import BackendError, ParameterError

with no_telemetry():
    import onnxruntime as ort

if TYPE_CHECKING:
    from medseg_runtime.backends.base import PrecisionName
    from medseg_runtime.model.bundle import Bundle, Precision
    from medseg_runtime.model.signatures import GraphName

INSTALL = "Run `pip uninstall onnxruntime onnxruntime-gpu`, then `pip install 'medseglatdiff[gpu]'`."


@dataclass(frozen=True, kw_only=True, slots=True)
class Device:
    """Where sessions run, in ONNX Runtime's terms."""

    provider: str
    memory: str
    """Device name of an `OrtValue`."""
    provider_options: dict[str, str] = field(default_factory=dict)
    session_options: dict[str, str] = field(default_factory=dict)


CUDA = Device(
    provider="CUDAExecutionProvider",
    memory="cuda",
    provider_options={"device_id": "0"},
    session_options={"session.disable_cpu_ep_fallback": "1"},
)


@dataclass(slots=True)
class _Shared:
    """What a backend and its clones share. A session with CUDA graphs runs one call at a time, under the lock."""

    sessions: dict[GraphName, ort.InferenceSession]
    lock: Lock = field(default_factory=Lock)
    graphs: int = 0
    """CUDA graph numbers given out so far. ONNX Runtime never frees a graph."""


class CudaBackend(DeviceLoop):
    """One session per graph. Clones share the sessions and take turns; each has its own device buffers."""

    name = "cuda"
    version: str = ort.__version__
    device: ClassVar[Device] = CUDA

    def __init__(
        self, bundle: Bundle, *, precision: PrecisionName = "auto", threads: int | None = None, cuda_graphs: bool = True
    ) -> None:
        """Create the sessions.

        precision: `auto` takes the bundle's low-precision graphs where it has any.
        threads: refused, because the CPU computes nothing.
        cuda_graphs: False launches every kernel by itself.

        Raises:
            ParameterError: the bundle has no graphs of that precision, or threads are given.
            BackendError: no CUDA provider, or it cannot run all nodes.
        """
        refuse_threads(self.name, threads)
        if self.device.provider not in ort.get_available_providers():
            raise BackendError(f"the installed ONNX Runtime {self.version} has no {self.device.provider}", INSTALL)
        contents, self.precision = _graphs(bundle, precision)
        self._manifest, self._policy = bundle.manifest, CapturePolicy(cuda_graphs)
        self._shared = _Shared(self._create_sessions(contents))
        self._is_clone = False
        self._stream = self._new_stream()

    @classmethod
    def precisions(cls) -> tuple[Precision, ...]:
        """Return the precisions of its kernels; none without the provider. A bundle may have graphs in only one of them."""
        return ("float16", "bfloat16", "float32") if cls.device.provider in ort.get_available_providers() else ()

    @property
    def why(self) -> str:  # type: ignore[override]  # a property: capturing may fail later
        """How its kernels are launched."""
        return f"it was asked for; launched {self._policy.launches}"

    def clone(self) -> CudaBackend:
        """Return another backend on the same sessions, with its own device buffers; see `Backend.clone`."""
        self._stream.check_open()
        other = object.__new__(type(self))
        other.precision, other._is_clone = self.precision, True
        other._manifest, other._policy, other._shared = self._manifest, self._policy, self._shared
        other._stream = other._new_stream()
        return other

    def close(self) -> None:
        """Drop the buffers, and the sessions unless this is a clone; wait for a running call. See `Backend.close`."""
        self._stream.close()
        if not self._is_clone:
            with self._shared.lock:
                self._shared.sessions.clear()

    def _new_stream(self) -> OnnxRuntimeStream:
        return OnnxRuntimeStream(self._shared, self._manifest, self.device.memory, self._policy)

    def _create_sessions(self, contents: dict[GraphName, bytes]) -> dict[GraphName, ort.InferenceSession]:
        """Create the sessions with CUDA graphs. Where that fails create them without, and warn."""
        if self._policy.active:
            try:
                return {name: self._session(name, content) for name, content in contents.items()}
            except BackendError as error:
                refusal = error
            self._policy.wanted = False
            sessions = {name: self._session(name, content) for name, content in contents.items()}
            self._policy.wanted = True
            self._policy.give_up(refusal)
            return sessions
        return {name: self._session(name, content) for name, content in contents.items()}

    def _session(self, name: GraphName, content: bytes) -> ort.InferenceSession:
        options = ort.SessionOptions()
        options.log_severity_level = 3  # as on the CPU
        options.add_session_config_entry(*ONLY_ONNX)
        for key, value in self.device.session_options.items():
            options.add_session_config_entry(key, value)
        provider_options = dict(self.device.provider_options)
        if self._policy.active and self.device.memory == "cuda":
            provider_options["enable_cuda_graph"] = "1"
        try:
            providers = [(self.device.provider, provider_options)]
            session = ort.InferenceSession(content, options, providers=providers, enable_fallback=0)  # as on the CPU
        except Exception as error:  # its exceptions share no base class but Exception
            raise BackendError(
                f"ONNX Runtime {self.version} cannot run all of {name}.onnx with {self.device.provider}: {one_line(error)}",
                "Use --backend tensorrt or onnxruntime, and report the bundle.",
            ) from error
        self._check(session, name)
        return session

    def _check(self, session: ort.InferenceSession, name: GraphName) -> None:
        """Refuse a session on another provider. ONNX Runtime appends the CPU, which the session option keeps idle."""
        found = session.get_providers()
        if found[:1] != [self.device.provider]:
            raise BackendError(
                f"ONNX Runtime {self.version} runs {name}.onnx on {', '.join(found)}, not on {self.device.provider}",
                f"Its CUDA or cuDNN libraries are missing; the log above names them. {INSTALL}",
            )
        check_signature(name, self._manifest.graphs[name], edges(session.get_inputs()), edges(session.get_outputs()))


def _graphs(bundle: Bundle, wanted: PrecisionName) -> tuple[dict[GraphName, bytes], Precision]:
    half = next((graph.precision for graph in bundle.manifest.half.values()), None)
    if half is not None and wanted in ("auto", half):
        return bundle.half, half
    if wanted not in ("auto", "float32"):
        raise ParameterError(
            f"the bundle has no {wanted} graphs", "Use precision float32, or export with `medseg-export --half`."
        )
    return bundle.graphs, "float32"
