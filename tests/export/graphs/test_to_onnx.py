"""Graphs have the operators, types and shapes that the runtime relies on, and compute what torch computes."""

from typing import get_args

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto

from medseg_export.checks import parity
from medseg_export.graphs import to_onnx
from medseg_runtime.backends.opening import open_backend
from medseg_runtime.errors import ExportError
from medseg_runtime.model.bundle import MAX_BATCH, Bundle
from medseg_runtime.model.signatures import GraphName
from medseg_trainer.models.graphs import TorchBackend
from medseg_trainer.training.run_folder import RunFolder
from tests.export.kinds import EVERY_KIND

EVERY_GRAPH = pytest.mark.parametrize("graph", get_args(GraphName))


def model(bundle, graph):
    return onnx.load(bundle / f"{graph}.onnx")


@EVERY_GRAPH
@EVERY_KIND
def test_graphs_are_of_opset_20_with_float32_edges(kind, graph, bundle_of):
    exported = model(bundle_of(kind), graph)
    assert [(entry.domain, entry.version) for entry in exported.opset_import if not entry.domain] == [("", 20)]
    for value in (*exported.graph.input, *exported.graph.output):
        assert value.type.tensor_type.elem_type == TensorProto.FLOAT, value.name
    manifest = Bundle.load(bundle_of(kind)).manifest.graphs[graph]
    assert manifest.opset == 20
    assert [value.name for value in exported.graph.input] == list(manifest.inputs)
    assert [value.name for value in exported.graph.output] == list(manifest.outputs)


@EVERY_GRAPH
def test_normalization_is_an_operator_that_cpu_backends_have(graph, bundle_of):
    operators = {node.op_type for node in model(bundle_of("flow"), graph).graph.node}
    assert "InstanceNormalization" in operators
    assert "GroupNormalization" not in operators


def test_attention_is_plain_products(bundle_of):
    operators = {node.op_type for node in model(bundle_of("flow"), "denoiser").graph.node}
    assert {"MatMul", "Softmax"} <= operators
    assert "Attention" not in operators


@EVERY_GRAPH
@EVERY_KIND
def test_weights_are_stored_in_half_the_bytes(kind, graph, bundle_of):
    sizes = {}
    for tensor in model(bundle_of(kind), graph).graph.initializer:
        size = int(np.prod(tensor.dims))
        if tensor.data_type in (TensorProto.FLOAT, TensorProto.FLOAT16):
            assert (tensor.data_type == TensorProto.FLOAT16) == (size >= to_onnx.MIN_HALVED_SIZE), tensor.name
            sizes[tensor.data_type] = sizes.get(tensor.data_type, 0) + size
    assert sizes[TensorProto.FLOAT16] > sizes.get(TensorProto.FLOAT, 0)
    assert Bundle.load(bundle_of(kind)).manifest.graphs[graph].weights == "float16"


@pytest.mark.parametrize("batch", [1, 3, MAX_BATCH])
@EVERY_KIND
def test_graphs_take_any_batch(kind, batch, bundle_of, run_of):
    """The outputs are those of torch with the same rounded weights."""
    bundle = Bundle.load(bundle_of(kind))
    exported = open_backend("onnxruntime", bundle)
    networks = RunFolder(run_of(kind)).networks()
    to_onnx.round_weights(networks)
    trained = TorchBackend(networks)
    generator = np.random.default_rng(batch)
    for name in ("denoiser", "decoder"):
        graph = bundle.manifest.graphs[name]
        feeds = {key: parity._random(generator, shape, batch) for key, shape in graph.inputs.items()}
        for found, expected in zip(exported.run(name, feeds), trained.run(name, feeds), strict=True):
            assert found.shape == expected.shape
            assert len(found) == batch
            np.testing.assert_allclose(found, expected, atol=2e-4 * np.abs(expected).max())


def test_what_torch_cannot_export_is_one_error(run_of):
    from medseg_trainer.models.manifest import manifest_of

    class Stubborn(torch.nn.Module):
        def forward(self, latent):
            return torch.from_numpy(np.sort(latent.numpy()))

    manifest = manifest_of(RunFolder(run_of("flow")).config())
    with pytest.raises(ExportError, match=r"the decoder cannot be exported: .*constraints.txt names\.$") as caught:
        to_onnx.onnx_graph("decoder", Stubborn(), manifest)
    assert str(caught.value).isprintable()  # one line, no colours
