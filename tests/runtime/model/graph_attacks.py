"""ONNX files that make an inference library read other files, read memory, run for ever, or see another graph than a checker does.

Each is a decoder with the signature of the tiny bundle's. `victim` is a file that its weights are read from.
"""

import re
from collections.abc import Iterator

import onnx
from onnx import TensorProto, helper, numpy_helper

MEMORY = "*/_ORT_MEM_ADDR_/*"
"""ONNX Runtime's mark for weights that lie at an address in its own memory."""


def varint(number, *, padding=0):
    """Return a number as protobuf writes it; with padding, in more bytes than it needs."""
    number &= (1 << 64) - 1
    groups = [number & 127]
    while number := number >> 7:
        groups.append(number & 127)
    groups += [0] * padding
    return bytes([group | 128 for group in groups[:-1]] + groups[-1:])


def delimited(number, content, *, padding=0):
    """Return a field with its length before it."""
    return varint(number << 3 | 2) + varint(len(content), padding=padding) + content


def model_of(graph, *more):
    """Return a file with this GraphProto, and more fields of ModelProto after it."""
    opset = helper.make_opsetid("", 21).SerializeToString()
    return b"\x08\x0a" + delimited(8, opset) + delimited(7, graph) + b"".join(more)


def tensor(name, value=1.0, dims=(1, 2, 1, 1)):
    return helper.make_tensor(name, TensorProto.FLOAT, dims, [value] * 2)


def external(name, location, **more):
    """Return the two weights of a decoder, kept in another file."""
    kept = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=(1, 2, 1, 1), data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, "offset": "0", "length": "8", **more}.items():
        kept.external_data.add(key=key, value=value)
    return kept


def decoder(*, nodes=(), weights=(), sparse=(), conv="ones"):
    """Return the GraphProto of a decoder whose convolution takes its weights from the value `conv`."""
    latent = helper.make_tensor_value_info("latent", TensorProto.FLOAT, ["N", 2, 4, 4])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 1, 8, 8])
    sides = helper.make_tensor("sides", TensorProto.FLOAT, [4], [1.0, 1.0, 2.0, 2.0])
    last = [
        helper.make_node("Conv", ["latent", conv], ["summed"]),
        helper.make_node("Resize", ["summed", "", "sides"], ["logits"], mode="nearest"),
    ]
    graph = helper.make_graph([*nodes, *last], "decoder", [latent], [logits], [sides, *weights])
    graph.sparse_initializer.extend(sparse)
    return graph


def honest():
    return model_of(decoder(weights=[tensor("ones")]).SerializeToString())


def sparse(values):
    indices = helper.make_tensor("indices", TensorProto.INT64, [2], [0, 1])
    return onnx.SparseTensorProto(values=values, indices=indices, dims=(1, 2, 1, 1))


def branches(kept):
    """Return a node that runs one of two sub-graphs, both of which return a constant."""
    made = helper.make_node("Constant", [], ["inner"], value=kept)
    out = helper.make_tensor_value_info("inner", TensorProto.FLOAT, [1, 2, 1, 1])
    inner = helper.make_graph([made], "branch", [], [out])
    return helper.make_node("If", ["yes"], ["ones"], then_branch=inner, else_branch=inner)


def calling(node):
    """Return a decoder that gets its weights from a function with this node."""
    function = helper.make_function("ours", "Weights", [], ["ones"], [node], [helper.make_opsetid("", 21)])
    called = decoder(nodes=[helper.make_node("Weights", [], ["ones"], domain="ours")]).SerializeToString()
    ours = delimited(8, helper.make_opsetid("ours", 1).SerializeToString())
    return model_of(called, ours, delimited(25, function.SerializeToString()))


def endless():
    """Return a node that counts to the largest number there is."""
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Identity", ["state"], ["next"])],
        "body",
        [
            info("count", TensorProto.INT64, []),
            info("go", TensorProto.BOOL, []),
            info("state", TensorProto.FLOAT, [1, 2, 1, 1]),
        ],
        [info("go_on", TensorProto.BOOL, []), info("next", TensorProto.FLOAT, [1, 2, 1, 1])],
    )
    return helper.make_node("Loop", ["most", "yes", "start"], ["ones"], body=body)


def hidden(content):
    """Return the file with the length of each key `location` in more bytes than it needs: a checker that looks for bytes misses it.

    The value gives a byte up, so that no other length changes.
    """
    return re.sub(
        rb"\x0a\x08location\x12(.)",
        lambda found: b"\x0a\x88\x00location\x12" + bytes([found[1][0] - 1]),
        content,
        flags=re.DOTALL,
    ).replace(b"#", b"")


def reading_others(victim) -> Iterator[tuple[str, bytes]]:
    """Yield files that take weights from another file or from memory. Not even a trusted bundle may."""
    yield "not hidden", model_of(decoder(weights=[external("ones", victim)]).SerializeToString())
    for what, content in _reading(external("ones", f"{victim}#"), external("ones", f"{MEMORY}#", offset=str(1 << 40))):
        yield what, hidden(content)


def _reading(kept, memory) -> Iterator[tuple[str, bytes]]:
    yes = helper.make_tensor("yes", TensorProto.BOOL, [], [True])
    constant = helper.make_node("Constant", [], ["ones"], value=kept)
    bare = decoder().SerializeToString()
    yield "an initializer", model_of(decoder(weights=[kept]).SerializeToString())
    yield "a second graph, merged with the first", model_of(bare, delimited(7, delimited(5, kept.SerializeToString())))
    yield "a tensor in two parts", model_of(bare + delimited(5, kept.SerializeToString() + delimited(8, b"ones")))
    yield "a constant", model_of(decoder(nodes=[constant]).SerializeToString())
    yield "a sub-graph", model_of(decoder(nodes=[branches(kept)], weights=[yes]).SerializeToString())
    yield "sparse weights", model_of(decoder(sparse=[sparse(kept)]).SerializeToString())
    thin = helper.make_node("Constant", [], ["ones"])
    thin.attribute.add(name="sparse_value", type=onnx.AttributeProto.SPARSE_TENSOR).sparse_tensor.CopyFrom(sparse(kept))
    yield "a sparse constant", model_of(decoder(nodes=[thin]).SerializeToString())
    yield "the body of a function", calling(constant)
    training = onnx.TrainingInfoProto(initialization=helper.make_graph([], "i", [], [], [kept])).SerializeToString()
    yield (
        "a graph for training",
        model_of(decoder(weights=[tensor("ones")]).SerializeToString(), delimited(20, training)),
    )
    yield "an address in memory", model_of(decoder(weights=[memory]).SerializeToString())
    yield "a sparse address", model_of(decoder(sparse=[sparse(memory)]).SerializeToString())


def other_formats() -> Iterator[tuple[str, bytes]]:
    """Yield files that are not ONNX, or not for every reader."""
    content = honest()
    yield "text", b"not a graph"
    yield "no graph", b"\x08\x0a"
    yield "OpenVINO's XML", b'<?xml version="1.0"?><net name="decoder" version="11"><layers/><edges/></net>'
    yield "ONNX Runtime's flatbuffer", b"\x18\x00\x00\x00ORTM" + bytes(64)
    yield "ONNX with the mark of a flatbuffer", b"\x08\x0a\x12\x04ORTM" + content[2:]
    yield "cut off", content[:-1]
    yield "bytes at the end", content + b"\0"
    yield "an unknown field", content + delimited(100, b"more")
    yield "a group", content + varint(6 << 3 | 3) + varint(6 << 3 | 4)
    yield "a number in more bytes than it needs", b"\x08\x8a\x00" + content[2:]
    yield "two version numbers", b"\x08\x09" + content
    ones = tensor("ones")
    unpacked = TensorProto(name="ones", data_type=TensorProto.FLOAT, dims=ones.dims).SerializeToString()
    unpacked += b"".join(varint(4 << 3 | 5) + b"\0\0\x80\x3f" for _ in range(2))
    yield "numbers one by one", model_of(decoder().SerializeToString() + delimited(5, unpacked))


def doubtful() -> Iterator[tuple[str, bytes]]:
    """Yield ONNX files that two readers could take for two graphs, or that nobody writes."""
    both = tensor("ones")
    both.raw_data = numpy_helper.from_array(numpy_helper.to_array(both) * 2).raw_data
    yield "values twice", model_of(decoder(weights=[both]).SerializeToString())
    yield (
        "two weights of one name",
        model_of(decoder(weights=[tensor("ones"), tensor("ones", 3.0)]).SerializeToString()),
    )
    negative = decoder(weights=[tensor("ones")])
    negative.initializer[1].dims[0] = -1
    yield "a negative side", model_of(negative.SerializeToString())
    huge = decoder(weights=[tensor("ones")])
    huge.value_info.append(helper.make_tensor_value_info("summed", TensorProto.FLOAT, [1 << 40, 1 << 40]))
    yield "an absurd side", model_of(huge.SerializeToString())
    many = decoder(weights=[tensor("ones")])
    many.initializer[1].dims.extend([1 << 20] * 200_000)
    yield "a shape of many sides", model_of(many.SerializeToString())
    short = decoder(weights=[tensor("ones")])
    short.initializer[1].dims[0] = 1 << 20
    yield "weights that are too few", model_of(short.SerializeToString())
    other = decoder(weights=[tensor("ones")])
    other.node[1].attribute[0].type = onnx.AttributeProto.INT
    yield "an attribute of another type", model_of(other.SerializeToString())
    named = decoder(weights=[tensor("ones")]).SerializeToString()
    for what, name in (("UTF-8", b"\xff\xfe"), ("short", b"n" * 1000), ("printable", b"\x1b[2Jgone")):
        yield f"a name that is not {what}", model_of(named.replace(delimited(2, b"decoder"), delimited(2, name)))


def unusual() -> Iterator[tuple[str, bytes]]:
    """Yield honest ONNX files that the exporter does not write; a trusted bundle may have them."""
    yes = helper.make_tensor("yes", TensorProto.BOOL, [], [True])
    most = helper.make_tensor("most", TensorProto.INT64, [], [2**63 - 1])
    ones = tensor("ones")
    yield "a sub-graph", model_of(decoder(nodes=[branches(ones)], weights=[yes]).SerializeToString())
    loop = decoder(nodes=[endless()], weights=[yes, most, tensor("start")])
    yield "a loop without an end", model_of(loop.SerializeToString())
    yield "a function", calling(helper.make_node("Constant", [], ["ones"], value=ones))
    custom = helper.make_node("Gelu", ["start"], ["ones"], domain="com.microsoft")
    yield "a library's own operator", model_of(decoder(nodes=[custom], weights=[tensor("start")]).SerializeToString())
    plain = helper.make_node("Tanh", ["start"], ["ones"])
    yield "another operator", model_of(decoder(nodes=[plain], weights=[tensor("start")]).SerializeToString())
    yield (
        "a constant",
        model_of(decoder(nodes=[helper.make_node("Constant", [], ["ones"], value=ones)]).SerializeToString()),
    )
    yield "sparse weights", model_of(decoder(sparse=[sparse(tensor("ones", dims=[2]))]).SerializeToString())
    sixteen = helper.make_tensor("ones", TensorProto.UINT8, (1, 2, 1, 1), [1, 1])
    yield "another type", model_of(decoder(weights=[sixteen]).SerializeToString())
    noted = decoder(weights=[ones])
    noted.doc_string = "traced at /home/somebody"
    yield "a note", model_of(noted.SerializeToString())
