"""ONNX Runtime on an NVIDIA GPU: condition, latents, rows and time features stay there, and steps are CUDA graphs.

For GPUs without TensorRT engines. Only the CUDA provider is offered: ONNX Runtime's TensorRT provider builds its engines at the first
image, in silence, needs TensorRT 10 (the published wheels up to 1.31 link `libnvinfer.so.10`), and runs what `trt` runs.

ONNX Runtime falls back in three ways, each without an exception; here each is one. A package for the CPU has no CUDA provider; a
provider whose libraries are missing is left out of the session; nodes that it cannot run go to the CPU.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, ClassVar

from medseg_runtime.backends.gpu.capture_policy import CapturePolicy
from medseg_runtime.backends.gpu.device_loop import DeviceLoop, refuse_threads
from medseg_runtime.backends.gpu.onnxruntime.stream import OnnxRuntimeStream
from medseg_runtime.backends.host_loop import check_signature, one_line
from medseg_runtime.backends.onnxruntime_cpu import edges
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
class Place:
    """Where sessions run, in the words of ONNX Runtime."""

    provider: str
    device: str
    provider_options: dict[str, str] = field(default_factory=dict)
    session_options: dict[str, str] = field(default_factory=dict)


CUDA = Place(
    provider="CUDAExecutionProvider",
    device="cuda",
    provider_options={"device_id": "0"},
    session_options={"session.disable_cpu_ep_fallback": "1"},
)


@dataclass(slots=True)
class _Shared:
    """What a backend and its clones have in common; a session with CUDA graphs runs one call at a time."""

    sessions: dict[GraphName, ort.InferenceSession]
    lock: Lock = field(default_factory=Lock)
    graphs: int = 0
    """CUDA graphs that were promised so far; ONNX Runtime never gives one back."""


class CudaBackend(DeviceLoop):
    """One session per graph, which clones share in turns; each has buffers of its own."""

    name = "cuda"
    version: str = ort.__version__
    place: ClassVar[Place] = CUDA

    def __init__(
        self, bundle: Bundle, *, precision: PrecisionName = "auto", threads: int | None = None, cuda_graphs: bool = True
    ) -> None:
        """Start the sessions.

        precision: `auto` for that of the bundle's low-precision graphs, where it has any.
        threads: of no use here, and refused.
        cuda_graphs: False launches every kernel one by one.

        Raises:
            ParameterError: the bundle has no graphs of that precision, or threads are wanted.
            BackendError: no CUDA provider, or it does not run everything.
        """
        refuse_threads(self.name, threads)
        if self.place.provider not in ort.get_available_providers():
            raise BackendError(f"the installed ONNX Runtime {self.version} has no {self.place.provider}", INSTALL)
        contents, self.precision = _graphs(bundle, precision)
        self._manifest, self._policy = bundle.manifest, CapturePolicy(cuda_graphs)
        self._shared = _Shared(self._started(contents))
        self._stream = self._new_stream()

    @classmethod
    def precisions(cls) -> tuple[Precision, ...]:
        """Return what its kernels multiply in, nothing without the provider; a bundle may have graphs of one of them only."""
        return ("float16", "bfloat16", "float32") if cls.place.provider in ort.get_available_providers() else ()

    @property
    def why(self) -> str:  # type: ignore[override]  # a property, as it names what came of the graphs
        """How it runs."""
        return f"it was asked for; launched {self._policy.launches}"

    def clone(self) -> CudaBackend:
        """Return another one on the same sessions, with buffers of its own."""
        twin = object.__new__(type(self))
        twin.precision, twin._manifest, twin._policy, twin._shared = (
            self.precision,
            self._manifest,
            self._policy,
            self._shared,
        )
        twin._stream = twin._new_stream()
        return twin

    def close(self) -> None:
        """Drop the sessions, those of clones too."""
        self._shared.sessions.clear()
        self._stream.close()

    def _new_stream(self) -> OnnxRuntimeStream:
        return OnnxRuntimeStream(self._shared, self._manifest, self.place.device, self._policy)

    def _started(self, contents: dict[GraphName, bytes]) -> dict[GraphName, ort.InferenceSession]:
        """Start the sessions with CUDA graphs if they allow that, otherwise without, and then say so."""
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
        for key, value in self.place.session_options.items():
            options.add_session_config_entry(key, value)
        provider_options = dict(self.place.provider_options)
        if self._policy.active and self.place.device == "cuda":
            provider_options["enable_cuda_graph"] = "1"
        try:
            session = ort.InferenceSession(content, options, providers=[(self.place.provider, provider_options)])
        except Exception as error:  # its exceptions share no base class but Exception
            raise BackendError(
                f"ONNX Runtime {self.version} cannot run all of {name}.onnx with {self.place.provider}: {one_line(error)}",
                "Use --backend tensorrt or onnxruntime, and report the bundle.",
            ) from error
        self._check(session, name)
        return session

    def _check(self, session: ort.InferenceSession, name: GraphName) -> None:
        """Compare what was asked for with what came: ONNX Runtime appends the CPU, which the option above keeps idle."""
        found = session.get_providers()
        if found[:1] != [self.place.provider]:
            raise BackendError(
                f"ONNX Runtime {self.version} runs {name}.onnx on {', '.join(found)}, not on {self.place.provider}",
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
