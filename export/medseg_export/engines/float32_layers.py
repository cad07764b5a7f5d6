"""List the layers of a low-precision network that compute in float32, with the reason, as NVIDIA's parser reads the graph.

A strongly typed network has the types of its graph: `graphs.low_precision` left each of these layers in float32. The list shows that
the parser neither added float32 layers nor converted any to low precision.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from types import ModuleType
from typing import Any

from medseg_export.engines.to_tensorrt import Target, parse
from medseg_runtime.model.bundle import Bundle

KIND_REASONS = {
    "NORMALIZATION": "norms: their sums of squares overflow in float16",
    "SOFTMAX": "softmax: its sums do not fit in float16",
    "CAST": "casts to float32, for the next layer or an output",
}
BETWEEN = "layers between a float32 layer or input and the next cast to low precision"
EMBEDDING = "the time embedding"
SAMPLER = "the sampler's row: its rounding would add up over the steps"


def float32_report(target: Target, bundle: Bundle) -> list[str]:
    """Return one line for each low-precision graph of a bundle and each reason.

    Raises:
        EngineError: the parser rejects a graph.
    """
    lines = []
    for name, content in bundle.half.items():
        network = parse(target.trt, name, bundle.manifest.half[name], content)
        for reason, kinds in sorted(float32_layers(target.trt, network.definition).items()):
            counted = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
            lines.append(f"{name}: {reason}: {counted}")
    return lines


def float32_layers(trt: ModuleType, definition: Any) -> dict[str, Counter[str]]:
    """Return reason -> type of layer -> count. Constants, and layers that depend on constants alone, are not counted.

    definition: a parsed network, whose layers are in topological order.
    """
    found: defaultdict[str, Counter[str]] = defaultdict(Counter)
    reached = {tensor.name: {tensor.name} for tensor in map(definition.get_input, range(definition.num_inputs))}
    for layer in map(definition.get_layer, range(definition.num_layers)):
        inputs = [tensor for tensor in map(layer.get_input, range(layer.num_inputs)) if tensor is not None]
        outputs = [layer.get_output(index) for index in range(layer.num_outputs)]
        sources = {source for tensor in inputs for source in reached.get(tensor.name, ())}
        reached |= {tensor.name: sources for tensor in outputs}
        if sources and any(tensor.dtype == trt.DataType.FLOAT for tensor in outputs):
            found[_reason(layer.type.name, sources)][layer.type.name] += 1
    return dict(found)


def _reason(kind: str, sources: set[str]) -> str:
    """Return why a layer is in float32. sources: the network inputs that it depends on."""
    if sources == {"time_features"}:
        return EMBEDDING
    if "row" in sources:
        return SAMPLER
    return KIND_REASONS.get(kind, BETWEEN)
