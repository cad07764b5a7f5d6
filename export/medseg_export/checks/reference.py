"""ONNX's reference evaluator as a backend: slow numpy code that computes each operator in the type the graph names.

ONNX Runtime's CPU provider computes float16 graphs in float32, so it cannot overflow, and does not support bfloat16.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from medseg_runtime.backends.base import Float32
from medseg_runtime.backends.host_loop import HostLoop
from medseg_runtime.model.bundle import Manifest, Precision
from medseg_runtime.model.signatures import GraphName


class ReferenceBackend(HostLoop):
    """Run exported graphs on `onnx.reference`. A call takes seconds: use it for one image and few samples."""

    name = "onnx.reference"
    version: str = onnx.__version__

    def __init__(self, manifest: Manifest, graphs: dict[GraphName, bytes], precision: Precision) -> None:
        self.precision = precision
        self._outputs = {name: list(graph.outputs) for name, graph in manifest.graphs.items()}
        self._graphs = {name: ReferenceEvaluator(onnx.load_from_string(graph)) for name, graph in graphs.items()}

    def run(self, graph: GraphName, feeds: dict[str, Float32]) -> tuple[Float32, ...]:
        """Run a graph; see `HostLoop.run`."""
        # numpy warns where its sigmoid evaluates both branches; a real overflow shows in the outputs
        with np.errstate(all="ignore"):
            found = self._graphs[graph].run(self._outputs[graph], dict(feeds))
        return tuple(np.asarray(output, np.float32) for output in found)

    def clone(self) -> ReferenceBackend:
        """Return this backend: it keeps no state between calls."""
        return self

    def close(self) -> None:
        """Drop the graphs."""
        self._graphs.clear()
