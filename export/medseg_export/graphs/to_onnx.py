"""Export torch modules as ONNX graphs.

float32 graphs use opset 20, which writes group normalization as InstanceNormalization of reshaped groups. CPU backends have that
operator; they expand the GroupNormalization of opset 21 into a dozen others (on two cores the shipped encoder took 6.3 instead of
5.1 ms in ONNX Runtime, its denoiser 10.8 instead of 9.7 ms in OpenVINO with bfloat16). Up to opset 22 attention is exported as plain
matrix products, which every backend supports.
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
from medseg_runtime.model.graph_guard import check_graph
from medseg_runtime.model.signatures import GraphName, Shape
from medseg_trainer.models.graphs import Networks

OPSET = 20
MIN_HALVED_SIZE = 1024
"""Smallest tensor, in elements, that is stored as float16. Norms, biases and scalars stay in float32."""
EXAMPLE_BATCH = 2


def round_weights(networks: Networks) -> None:
    """Round the weights in place to what a bundle stores: float16, except for small tensors.

    The arithmetic stays in float32. The bundle is half the size and stores these weights exactly.
    """
    with torch.no_grad():
        for module in (networks.condition, networks.denoiser, networks.mask_autoencoder):
            for tensor in module.state_dict().values():
                if tensor.is_floating_point() and tensor.numel() >= MIN_HALVED_SIZE:
                    tensor.copy_(tensor.half().float())


def onnx_graph(name: GraphName, module: nn.Module, manifest: Manifest, *, opset: int = OPSET) -> bytes:
    """Return one graph as the bytes of an ONNX file, with the manifest's shapes and a batch N of 1 to 64.

    Raises:
        ExportError: torch's exporter or onnx's checker refuses it, or the runtime would.
    """
    graph = manifest.graphs[name]
    batch = torch.export.Dim("batch", min=1, max=MAX_BATCH)
    dynamic = {key: {0: batch} if shape[0] == "N" else None for key, shape in graph.inputs.items()}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's exporter warns about its own internals
            program = torch.onnx.export(
                module,
                (),
                kwargs={key: example_input(shape) for key, shape in graph.inputs.items()},
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
        buffer = io.BytesIO()
        onnx.save(model, buffer)
        check_graph(buffer.getvalue())  # the runtime would refuse it
    except Exception as error:  # torch's exporter raises many types
        raise ExportError(
            f"the {name} cannot be exported: {_first_cause(error)}",
            "Install the torch and onnx that constraints.txt names.",
        ) from error
    return buffer.getvalue()


def _first_cause(error: BaseException) -> str:
    """Return the first line of the original error, without the page of coloured advice that torch wraps around it."""
    while error.__cause__ is not None:
        error = error.__cause__
    line, _, _ = str(error).strip().partition("\n")
    return f"{type(error).__name__}: {line}"


def example_input(shape: Shape) -> Tensor:
    """Return a standard normal tensor of a graph input's shape, with a batch of 2."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn([EXAMPLE_BATCH if size == "N" else size for size in shape], generator=generator)


def strip_origin(model: onnx.ModelProto) -> None:
    """Remove the stack traces that torch writes into the graph: they contain paths of the exporting machine."""
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.initializer, *graph.input, *graph.output, *graph.value_info):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")


def halve_weights(model: onnx.ModelProto) -> None:
    """Store large float32 initializers as float16, each followed by a Cast to float32, which backends fold at load."""
    casts = list(_halve(model.graph.initializer))
    for node in reversed(casts):
        model.graph.node.insert(0, node)


def _halve(initializers: list[TensorProto]) -> Iterator[onnx.NodeProto]:
    """Round initializers to float16 in place; yield the Cast that gives each its float32 name back."""
    for tensor in initializers:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and values.size >= MIN_HALVED_SIZE:
            name = tensor.name
            tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}.half"))
            yield helper.make_node("Cast", [f"{name}.half"], [name], name=f"{name}.cast", to=TensorProto.FLOAT)


def graph_entry(name: GraphName, content: bytes, shapes: Graph, precision: Precision = "float32") -> Graph:
    """Return what bundle.json says about an exported graph.

    content: the ONNX file. shapes: the entry whose inputs and outputs it takes over.
    """
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
