"""Check that an ONNX file is one that medseg-export could have written, before a library parses it.

Inference libraries do more than arithmetic with a file: they read other files that it names, call functions in it without end, and
take formats other than ONNX. Each parses it with code of its own. Here the whole file is read (see `protobuf`), and what the exporter
does not write is refused: external data, sub-graphs, functions, other operators and types, and unknown fields.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from medseg_runtime.model.onnx_schema import EXPORTED, WHOLE
from medseg_runtime.model.protobuf import Message, ProtobufError, read_message

OPERATORS = frozenset(
    [
        "Add",
        "ArgMin",
        "Cast",
        "Concat",
        "Conv",
        "DepthToSpace",
        "Div",
        "GatherND",
        "Gemm",
        "GroupNormalization",
        "InstanceNormalization",
        "MatMul",
        "Mul",
        "Reshape",
        "Resize",
        "Shape",
        "Sigmoid",
        "Slice",
        "Softmax",
        "Split",
        "Squeeze",
        "Sub",
        "Transpose",
        "Unsqueeze",
    ]
)
"""What medseg-export writes. None of them reads a file, runs a sub-graph or loops."""
FLATBUFFERS = (b"ORTM", b"TFL3")
"""Marks at byte 4 of other formats, which ONNX Runtime and OpenVINO would take the file for: those of ONNX Runtime and TensorFlow Lite."""
VALUES = {1: "f", 2: "i", 3: "s", 4: "t", 5: "g", 6: "floats", 7: "ints", 8: "strings", 9: "tensors", 10: "graphs"} | {
    11: "sparse_tensor",
    12: "sparse_tensors",
}
"""An attribute's type -> the field with its value."""
ITEM_BYTES = {1: 4, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 16: 2}
"""Types of tensors that are written, and their sizes: float32, int32, int64, bool, float16, float64, bfloat16."""
PACKED = {"float_data": (1,), "int64_data": (7,)}
"""Fields with a tensor's values instead of `raw_data`, and the types that they may hold."""
MAX_AXES = 8
MAX_SIDE = 1 << 24
MAX_VALUES = 1 << 31


class GraphError(ValueError):
    """The file is not a graph that medseg-export writes."""


def check_graph(content: bytes, *, trusted: bool = False) -> None:
    """Read an ONNX file whole, and refuse it if medseg-export would not have written it.

    trusted: allow every operator, sub-graphs and functions. Data in other files or at addresses in memory are never allowed.

    Raises:
        GraphError: the reason, as the end of a sentence about the file.
    """
    if content[4:8] in FLATBUFFERS:
        raise GraphError("is a flatbuffer, not ONNX")
    try:
        model = read_message(content, WHOLE if trusted else EXPORTED, "model", _refuse_doubt if trusted else _refuse)
    except ProtobufError as error:
        raise GraphError(f"is not ONNX as medseg-export writes it: {error}") from error
    if content[:1] != b"\x08" or "graph" not in model:
        raise GraphError("is not ONNX")


def _refuse(kind: str, message: Message) -> None:
    """Refuse a message that the exporter does not write."""
    _refuse_doubt(kind, message)
    if kind == "node":
        _check_node(message)
    elif kind == "tensor":
        _check_tensor(message)
    elif kind == "shape":
        _check_sides([side.get("dim_value", 1) for side in message.get("dim", ())])


def _refuse_doubt(kind: str, message: Message) -> None:
    """Refuse a message that two libraries could read differently."""
    if kind == "attribute":
        _check_attribute(message)
    elif kind == "dimension" and {"dim_value", "dim_param"} <= message.keys():
        raise ProtobufError("a side has both a length and a name")
    elif kind == "graph":
        _check_distinct("weights", (tensor.get("name") for tensor in message.get("initializer", ())))
        outputs = (name for node in message.get("node", ()) for name in node.get("output", ()) if name)
        _check_distinct("values", outputs)
    elif kind == "node":
        _check_distinct("attributes", (attribute.get("name") for attribute in message.get("attribute", ())))


def _check_node(node: Message) -> None:
    operator, domain = node.get("op_type", ""), node.get("domain", "")
    if domain or operator not in OPERATORS:
        raise ProtobufError(
            f"it has the operator {f'{domain}.' * bool(domain)}{operator}, which medseg-export does not write"
        )


def _check_attribute(attribute: Message) -> None:
    """Refuse a value that is not of the attribute's type: libraries look at one or the other."""
    values = attribute.keys() - {"name", "type", "doc_string", "ref_attr_name"}
    expected = VALUES.get(attribute.get("type", 0))
    if not values <= {expected} or expected is None:
        raise ProtobufError("an attribute has another value than its type says")


def _check_tensor(tensor: Message) -> None:
    dims, data_type = tensor.get("dims", []), tensor.get("data_type", 0)
    if data_type not in ITEM_BYTES:
        raise ProtobufError(f"a tensor has the type {data_type}, which medseg-export does not write")
    _check_sides(dims)
    count = math.prod(dims)
    found = tensor.keys() & {"raw_data", *PACKED}
    if len(found) > 1:
        raise ProtobufError("a tensor has its values twice")
    field = next(iter(found), "raw_data")
    if field in PACKED and data_type not in PACKED[field]:
        raise ProtobufError("a tensor has values of another type")
    if tensor.get(field, 0) != (count * ITEM_BYTES[data_type] if field == "raw_data" else count):
        raise ProtobufError(
            f"a tensor of {dims} has {tensor.get(field, 0)} {'bytes' if field == 'raw_data' else 'values'}"
        )


def _check_sides(sides: list[int]) -> None:
    if len(sides) > MAX_AXES or not all(0 <= side <= MAX_SIDE for side in sides) or math.prod(sides) > MAX_VALUES:
        raise ProtobufError(f"a shape is out of range: {sides[:8]}")


def _check_distinct(what: str, names: Iterable[str | None]) -> None:
    listed = list(names)
    if len(set(listed)) < len(listed):
        raise ProtobufError(f"two {what} have one name")
