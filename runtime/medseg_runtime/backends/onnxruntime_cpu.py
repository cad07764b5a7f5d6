"""ONNX Runtime on the CPU in float32: the reference that other backends are compared with."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg_runtime.backends.base import chosen_precision, closed_error
from medseg_runtime.backends.host_loop import BoundLoop, check_signature, failure
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
ONLY_ONNX = ("session.load_model_format", "ONNX")
"""A session option: do not look for another format in the file."""


class OnnxRuntimeBackend(BoundLoop):
    """One session per graph. Clones share the sessions, which ONNX Runtime runs in several threads at once."""

    name = "onnxruntime"
    version: str = ort.__version__

    def __init__(self, bundle: Bundle, *, precision: PrecisionName = "auto", threads: int | None = None) -> None:
        self.precision = chosen_precision(self.name, precision, self.precisions())
        self.graphs = bundle.manifest.graphs
        self._sessions = {name: self._session(name, content, threads) for name, content in bundle.graphs.items()}

    @classmethod
    def precisions(cls) -> tuple[Precision, ...]:
        """Return the precisions of its CPU kernels."""
        return ("float32",)

    def _session(self, name: GraphName, content: bytes, threads: int | None) -> ort.InferenceSession:
        try:
            # without its fallback, which prints to stdout and tries the same again
            session = ort.InferenceSession(content, _options(threads), providers=[PROVIDER], enable_fallback=0)
        except Exception as error:  # its exceptions share no base class but Exception
            raise failure(
                f"ONNX Runtime {self.version} cannot load {name}.onnx",
                error,
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
        session = self._sessions.get(graph)
        if session is None:
            raise closed_error(self.name)

        def bound() -> ort.IOBinding:
            binding = session.io_binding()
            for name, array in inputs.items():
                binding.bind_input(name, "cpu", CPU, np.float32, array.shape, array.ctypes.data)
            for name, array in outputs.items():
                binding.bind_output(name, "cpu", CPU, np.float32, array.shape, array.ctypes.data)
            return binding

        binding, owner = _translated(graph, bound), weakref.proxy(self)  # self keeps what is returned

        def call() -> None:
            owner.check_open()
            _translated(graph, lambda: session.run_with_iobinding(binding))

        return call

    def drop_graphs(self) -> None:
        self._sessions.clear()

    def graphs_dropped(self) -> bool:
        return not self._sessions


def _translated(graph: GraphName, work: Callable[[], Any]) -> Any:
    try:
        return work()
    except Exception as error:
        raise failure(
            f"ONNX Runtime {ort.__version__} failed in {graph}",
            error,
            "Try fewer samples at once, or export the bundle again.",
        ) from error


def _options(threads: int | None) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.log_severity_level = 3  # no warnings, which are about folded constants; errors are exceptions
    options.intra_op_num_threads = threads or 0
    options.add_session_config_entry(*ONLY_ONNX)
    # Threads that spin between operators are a quarter faster on two cores. After a call they must not, or each keeps a core of the
    # host process busy.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options


def edges(values: Sequence[Any]) -> dict[str, tuple[bool, list[Any]]]:
    """Return a session's inputs or outputs as `check_signature` takes them."""
    return {value.name: (value.type == "tensor(float)", value.shape) for value in values}
