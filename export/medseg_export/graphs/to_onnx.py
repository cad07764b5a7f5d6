"""Torch modules => ONNX graphs.

Opset 20 in float32: group normalisation becomes InstanceNormalization of reshaped groups, which the engines of a CPU have; they take
GroupNormalization of opset 21 apart into a dozen operators (on two cores the shipped encoder took 6.3 instead of 5.1 ms in ONNX
Runtime, its denoiser 10.8 instead of 9.7 ms in OpenVINO and bfloat16). Attention is, up to opset 22, what it is in torch: plain
matrix products, which every engine takes.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Iterator

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from medseg_runtime.errors import ExportError
from medseg_runtime.model.bundle import MAX_BATCH, Graph, Manifest, Precision
from medseg_runtime.model.signatures import GraphName, Shape
from medseg_trainer.models.graphs import Networks

OPSET = 20
LEAST_HALVED = 1024
"""Tensors of fewer numbers stay in float32: norms, biases, scalars."""
EXAMPLE_BATCH = 2


def round_weights(networks: Networks) -> None:
    """Round the networks' weights, in place, to what a bundle stores: float16 for all but small tensors.

    Arithmetic stays in float32. The bundle is half the size, and holds exactly these numbers.
    """
    with torch.no_grad():
        for module in (networks.condition, networks.denoiser, networks.mask_autoencoder):
            for tensor in module.state_dict().values():
                if tensor.is_floating_point() and tensor.numel() >= LEAST_HALVED:
                    tensor.copy_(tensor.half().float())


def onnx_graph(name: GraphName, module: nn.Module, manifest: Manifest, *, opset: int = OPSET) -> bytes:
    """Export one graph, with the shapes that the manifest gives it and a batch of 1 to 64.

    Raises:
        ExportError: the exporter of torch, or onnx's checker, refuses it.
    """
    graph = manifest.graphs[name]
    batch = torch.export.Dim("batch", min=1, max=MAX_BATCH)
    dynamic = {key: {0: batch} if shape[0] == "N" else None for key, shape in graph.inputs.items()}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's exporter warns of its own internals
            program = torch.onnx.export(
                module,
                (),
                kwargs={key: example(shape) for key, shape in graph.inputs.items()},
                input_names=list(graph.inputs),
                output_names=list(graph.outputs),
                dynamic_shapes=dynamic,
                opset_version=opset,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
        assert program is not None
        model = program.model_proto
        halve_weights(model)
        strip_origin(model)
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # torch's exporter raises many kinds
        raise ExportError(
            f"the {name} cannot be exported: {_first_cause(error)}",
            "Install the torch and onnx that constraints.txt names.",
        ) from error
    buffer = io.BytesIO()
    onnx.save(model, buffer)
    return buffer.getvalue()


def _first_cause(error: BaseException) -> str:
    """Return the first line of what went wrong first; torch wraps it in a page of advice, with colours."""
    while error.__cause__ is not None:
        error = error.__cause__
    line, _, _ = str(error).strip().partition("\n")
    return f"{type(error).__name__}: {line}"


def example(shape: Shape) -> Tensor:
    """Return standard normal numbers of a graph input's shape, at a batch of 2."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn([EXAMPLE_BATCH if size == "N" else size for size in shape], generator=generator)


def strip_origin(model: onnx.ModelProto) -> None:
    """Take out where each node came from: torch writes stack traces, with the paths of the machine that exported."""
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.initializer, *graph.input, *graph.output, *graph.value_info):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")


def halve_weights(model: onnx.ModelProto) -> None:
    """Store large float32 initialisers as float16, each behind a Cast to float32, which engines fold when they load."""
    casts = list(_halved(model.graph.initializer))
    for node in reversed(casts):
        model.graph.node.insert(0, node)


def _halved(initialisers: list[TensorProto]) -> Iterator[onnx.NodeProto]:
    for tensor in initialisers:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and values.size >= LEAST_HALVED:
            name = tensor.name
            tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}.half"))
            yield helper.make_node("Cast", [f"{name}.half"], [name], name=f"{name}.cast", to=TensorProto.FLOAT)


def described(name: GraphName, content: bytes, shapes: Graph, precision: Precision = "float32") -> Graph:
    """Return the manifest's entry of an exported graph."""
    opset = next(
        entry.version for entry in onnx.load_from_string(content).opset_import if entry.domain in ("", "ai.onnx")
    )
    return Graph(
        file=f"{name}.onnx" if precision == "float32" else f"{name}.{precision}.onnx",
        sha256=hashlib.sha256(content).hexdigest(),
        opset=opset,
        precision=precision,
        weights="float16" if precision == "float32" else precision,
        inputs=shapes.inputs,
        outputs=shapes.outputs,
    )
