"""ONNX Runtime on the CPU: the reference engine, float32."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import onnxruntime as ort

from medseg_runtime.backends.host import HostLoop
from medseg_runtime.errors import BackendError

if TYPE_CHECKING:
    from medseg_runtime.backends import Float32
    from medseg_runtime.bundle import Bundle, GraphName, Shape

PROVIDER = "CPUExecutionProvider"


class OnnxRuntimeBackend(HostLoop):
    """One session per graph; threads as ONNX Runtime chooses them, and nothing global is set."""

    name = "onnxruntime"
    version: str = ort.__version__
    precision = "float32"

    def __init__(self, bundle: Bundle) -> None:
        options = ort.SessionOptions()
        options.log_severity_level = (
            3  # errors come back as exceptions; warnings about folded constants do not help a user
        )
        self._outputs = {name: list(graph.outputs) for name, graph in bundle.manifest.graphs.items()}
        self._sessions: dict[GraphName, ort.InferenceSession] = {}
        for name, content in bundle.graphs.items():
            try:
                session = ort.InferenceSession(content, options, providers=[PROVIDER])
            except Exception as error:  # its exceptions share no base class but Exception
                raise BackendError(
                    f"ONNX Runtime {self.version} cannot load {name}.onnx: {error}",
                    "Export the bundle again, or update ONNX Runtime.",
                ) from error
            if session.get_providers() != [PROVIDER]:
                raise BackendError(
                    f"ONNX Runtime {self.version} runs on {session.get_providers()}, not on {PROVIDER}",
                    "Install it again; `medseg-doctor` says how.",
                )
            graph = bundle.manifest.graphs[name]
            found = _described(session.get_inputs()), _described(session.get_outputs())
            if not (_fits(found[0], graph.inputs) and _fits(found[1], graph.outputs)):
                raise BackendError(
                    f"{name}.onnx has inputs and outputs {found}, not those of bundle.json",
                    "Export the bundle again with `medseg-export`.",
                )
            self._sessions[name] = session

    def run(self, graph: GraphName, feeds: dict[str, Float32]) -> tuple[Float32, ...]:
        """Run a graph; see `HostLoop.run`."""
        try:
            return tuple(self._sessions[graph].run(self._outputs[graph], feeds))
        except Exception as error:
            raise BackendError(
                f"ONNX Runtime {self.version} failed in {graph}: {error}",
                "Try fewer samples at once, or export the bundle again.",
            ) from error

    def clone(self) -> OnnxRuntimeBackend:
        """Return this one: its sessions may run in several threads at once."""
        return self

    def close(self) -> None:
        """Drop the sessions."""
        self._sessions.clear()


def _described(values: Sequence[Any]) -> dict[str, list[Any]]:
    """Name -> type and sides; a side that varies is a name or None."""
    return {value.name: [value.type, *value.shape] for value in values}


def _fits(found: dict[str, list[Any]], expected: dict[str, Shape]) -> bool:
    """Tell whether a graph is as bundle.json says; where the graph leaves a side open, bundle.json may fix it."""
    return found.keys() == expected.keys() and all(
        kind == "tensor(float)"
        and len(sides) == len(expected[name])
        and all(not isinstance(side, int) or side == wanted for side, wanted in zip(sides, expected[name], strict=True))
        for name, (kind, *sides) in found.items()
    )
