"""ONNX's own evaluator as a backend: slow, in numpy, and each operator really computes in the type that the graph says.

ONNX Runtime's CPU provider does not: it computes float16 graphs in float32, sees no overflow, and has no bfloat16 at all.
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
    """Exported graphs on `onnx.reference`: seconds per call, for one image of a few samples."""

    name = "onnx.reference"
    version: str = onnx.__version__

    def __init__(self, manifest: Manifest, graphs: dict[GraphName, bytes], precision: Precision) -> None:
        self.precision = precision
        self._outputs = {name: list(graph.outputs) for name, graph in manifest.graphs.items()}
        self._graphs = {name: ReferenceEvaluator(onnx.load_from_string(graph)) for name, graph in graphs.items()}

    def run(self, graph: GraphName, feeds: dict[str, Float32]) -> tuple[Float32, ...]:
        """Run a graph; see `HostLoop.run`."""
        # numpy warns where its sigmoid evaluates both branches; what overflows to the end is seen in the outputs
        with np.errstate(all="ignore"):
            found = self._graphs[graph].run(self._outputs[graph], dict(feeds))
        return tuple(np.asarray(output, np.float32) for output in found)

    def clone(self) -> ReferenceBackend:
        """Return this one: it keeps nothing between calls."""
        return self

    def close(self) -> None:
        """Drop the graphs."""
        self._graphs.clear()
