"""Which layers of a low-precision network compute in float32, and why, as NVIDIA's parser made them of the graph.

A strongly typed network has the types of its graph, so each of these was left in float32 by `half.py`; the list shows that the parser
added none of its own, and lowered none.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from types import ModuleType
from typing import Any

from medseg_export.engines.to_tensorrt import Target, parse
from medseg_runtime.model.bundle import Bundle

KIND_REASONS = {
    "NORMALIZATION": "norms, whose sums of squares overflow in float16",
    "SOFTMAX": "softmax, whose sums do not fit float16",
    "CAST": "casts to float32, for what follows or for an output",
}
AFTERWARDS = "what lies between one of the others, or a float32 input, and the next cast to low precision"
EMBEDDING = "the time embedding"
SAMPLER = "the sampler's row, whose rounding would add up over the steps"


def float32_report(target: Target, bundle: Bundle) -> list[str]:
    """Return one line for each low-precision graph of a bundle and each reason.

    Raises:
        EngineError: the parser refuses a graph.
    """
    lines = []
    for name, content in bundle.half.items():
        network = parse(target.trt, name, bundle.manifest.half[name], content)
        for reason, kinds in sorted(float32_layers(target.trt, network.definition).items()):
            counted = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
            lines.append(f"{name}: {reason}: {counted}")
    return lines


def float32_layers(trt: ModuleType, definition: Any) -> dict[str, Counter[str]]:
    """Return reason -> kind of layer -> how many; constants and what is computed of them alone are left out.

    definition: a parsed network. Its layers come in an order in which each one follows what it needs.
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
    """sources: the inputs of the network that the layer depends on."""
    if sources == {"time_features"}:
        return EMBEDDING
    if "row" in sources:
        return SAMPLER
    return KIND_REASONS.get(kind, AFTERWARDS)
