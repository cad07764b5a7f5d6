"""ONNX Runtime on the CPU: the reference engine, float32."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg_runtime.backends.base import chosen_precision
from medseg_runtime.backends.host_loop import BoundLoop, check_signature, one_line
from medseg_runtime.backends.telemetry import no_telemetry
from medseg_runtime.errors import BackendError

with no_telemetry():
    import onnxruntime as ort

if TYPE_CHECKING:
    from medseg_runtime.backends.base import PrecisionName
    from medseg_runtime.backends.host_loop import Arrays, BoundCall
    from medseg_runtime.model.bundle import Bundle, Precision
    from medseg_runtime.model.signatures import GraphName

PROVIDER = "CPUExecutionProvider"
CPU = 0


class OnnxRuntimeBackend(BoundLoop):
    """One session per graph, which clones share and run in several threads at once; nothing global is set."""

    name = "onnxruntime"
    version: str = ort.__version__

    def __init__(self, bundle: Bundle, *, precision: PrecisionName = "auto", threads: int | None = None) -> None:
        self.precision = chosen_precision(self.name, precision, self.precisions())
        self.graphs = bundle.manifest.graphs
        self._sessions = {name: self._session(name, content, threads) for name, content in bundle.graphs.items()}

    @classmethod
    def precisions(cls) -> tuple[Precision, ...]:
        """Return what its CPU kernels multiply in."""
        return ("float32",)

    def _session(self, name: GraphName, content: bytes, threads: int | None) -> ort.InferenceSession:
        try:
            session = ort.InferenceSession(content, _options(threads), providers=[PROVIDER])
        except Exception as error:  # its exceptions share no base class but Exception
            raise BackendError(
                f"ONNX Runtime {self.version} cannot load {name}.onnx: {one_line(error)}",
                "Export the bundle again, or update ONNX Runtime.",
            ) from error
        if session.get_providers() != [PROVIDER]:
            raise BackendError(
                f"ONNX Runtime {self.version} runs on {session.get_providers()}, not on {PROVIDER}",
                "Install it again; `medseg-doctor` says how.",
            )
        check_signature(name, self.graphs[name], edges(session.get_inputs()), edges(session.get_outputs()))
        return session

    def bind(self, graph: GraphName, inputs: Arrays, outputs: Arrays) -> BoundCall:
        def bound() -> ort.IOBinding:
            binding = self._sessions[graph].io_binding()
            for name, array in inputs.items():
                binding.bind_input(name, "cpu", CPU, np.float32, array.shape, array.ctypes.data)
            for name, array in outputs.items():
                binding.bind_output(name, "cpu", CPU, np.float32, array.shape, array.ctypes.data)
            return binding

        binding = self._translated(graph, bound)
        return lambda: self._translated(graph, lambda: self._sessions[graph].run_with_iobinding(binding))

    def _translated(self, graph: GraphName, work: Callable[[], Any]) -> Any:
        try:
            return work()
        except Exception as error:
            raise BackendError(
                f"ONNX Runtime {self.version} failed in {graph}: {one_line(error)}",
                "Try fewer samples at once, or export the bundle again.",
            ) from error

    def close(self) -> None:
        """Drop the sessions, those of clones too."""
        self._sessions.clear()
        self._steps = None


def _options(threads: int | None) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.log_severity_level = 3  # errors come as exceptions; warnings about folded constants do not help a user
    options.intra_op_num_threads = threads or 0
    # Threads that spin from one operator to the next are a quarter faster on two cores; spinning on after a call, they would burn a
    # core each in somebody else's process.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options


def edges(values: Sequence[Any]) -> dict[str, tuple[bool, list[Any]]]:
    """Return what `check_signature` wants to know of a session's inputs or outputs."""
    return {value.name: (value.type == "tensor(float)", value.shape) for value in values}
