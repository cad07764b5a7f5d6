"""The messages of ONNX files, https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3: what medseg-export writes, and what ONNX has besides.

A tensor's `external_data` and `data_location` are refused in both: they make a library read other files, or its own memory.
"""

from __future__ import annotations

from medseg_runtime.model.protobuf import REFUSED, Field

ELSEWHERE = Field("weights in another file", REFUSED)


def _fields(**kinds: tuple[int, str]) -> dict[int, Field]:
    """Name -> (number, kind); the kind of a repeated field ends with a star."""
    return {number: Field(name, kind.rstrip("*"), kind.endswith("*")) for name, (number, kind) in kinds.items()}


EXPORTED = {
    "model": _fields(
        ir_version=(1, "int"),
        producer_name=(2, "text"),
        producer_version=(3, "text"),
        graph=(7, "graph"),
        opset_import=(8, "operator set*"),
    ),
    "operator set": _fields(domain=(1, "text"), version=(2, "int")),
    "graph": _fields(
        node=(1, "node*"),
        name=(2, "text"),
        initializer=(5, "tensor*"),
        input=(11, "value*"),
        output=(12, "value*"),
        value_info=(13, "value*"),
    ),
    "node": _fields(
        input=(1, "text*"),
        output=(2, "text*"),
        name=(3, "text"),
        op_type=(4, "text"),
        attribute=(5, "attribute*"),
        domain=(7, "text"),
    ),
    "attribute": _fields(
        name=(1, "text"),
        f=(2, "float"),
        i=(3, "int"),
        s=(4, "text"),
        floats=(7, "float*"),
        ints=(8, "int*"),
        type=(20, "int"),
    ),
    "tensor": _fields(
        dims=(1, "int*"),
        data_type=(2, "int"),
        float_data=(4, "packed float"),
        int64_data=(7, "packed int"),
        name=(8, "text"),
        raw_data=(9, "bytes"),
    )
    | {13: ELSEWHERE, 14: ELSEWHERE},
    "value": _fields(name=(1, "text"), type=(2, "type")),
    "type": _fields(tensor_type=(1, "tensor type")),
    "tensor type": _fields(elem_type=(1, "int"), shape=(2, "shape")),
    "shape": _fields(dim=(1, "dimension*")),
    "dimension": _fields(dim_value=(1, "int"), dim_param=(2, "text")),
}
"""What medseg-export writes."""

_NOTES = _fields(doc_string=(10, "text"), metadata_props=(16, "entry*"))

WHOLE = {
    "model": EXPORTED["model"]
    | _fields(
        domain=(4, "text"),
        model_version=(5, "int"),
        doc_string=(6, "text"),
        metadata_props=(14, "entry*"),
        functions=(25, "function*"),
    ),
    "operator set": EXPORTED["operator set"],
    "entry": _fields(key=(1, "text"), value=(2, "text")),
    "graph": EXPORTED["graph"] | _NOTES | _fields(sparse_initializer=(15, "sparse tensor*")),
    "function": _fields(
        name=(1, "text"),
        input=(4, "text*"),
        output=(5, "text*"),
        attribute=(6, "text*"),
        node=(7, "node*"),
        doc_string=(8, "text"),
        opset_import=(9, "operator set*"),
        domain=(10, "text"),
        attribute_proto=(11, "attribute*"),
        value_info=(12, "value*"),
        overload=(13, "text"),
        metadata_props=(14, "entry*"),
    ),
    "node": EXPORTED["node"] | _fields(doc_string=(6, "text"), overload=(8, "text"), metadata_props=(9, "entry*")),
    "attribute": EXPORTED["attribute"]
    | _fields(
        s=(4, "bytes"),
        t=(5, "tensor"),
        g=(6, "graph"),
        strings=(9, "bytes*"),
        tensors=(10, "tensor*"),
        graphs=(11, "graph*"),
        doc_string=(13, "text"),
        ref_attr_name=(21, "text"),
        sparse_tensor=(22, "sparse tensor"),
        sparse_tensors=(23, "sparse tensor*"),
    ),
    "tensor": EXPORTED["tensor"]
    | _fields(
        int32_data=(5, "packed int"),
        string_data=(6, "bytes*"),
        double_data=(10, "packed double"),
        uint64_data=(11, "packed int"),
        doc_string=(12, "text"),
        metadata_props=(16, "entry*"),
    ),
    "sparse tensor": _fields(values=(1, "tensor"), indices=(2, "tensor"), dims=(3, "int*")),
    "value": EXPORTED["value"] | _fields(doc_string=(3, "text"), metadata_props=(4, "entry*")),
    "type": EXPORTED["type"] | _fields(denotation=(6, "text")),
    "tensor type": EXPORTED["tensor type"],
    "shape": EXPORTED["shape"],
    "dimension": EXPORTED["dimension"] | _fields(denotation=(3, "text")),
}
"""What ONNX has, but for external data, training and sequences."""
