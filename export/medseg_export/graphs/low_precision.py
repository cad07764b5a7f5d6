"""Convert float32 networks to float16 or bfloat16 in torch, before export.

Converters of ONNX graphs also convert what float16 cannot hold: norms, whose sums of squares overflow into black masks, and the time
embedding. Here only convolutions change their type, and with them the tensors between them: residual streams, skips and the products
of attention. Norms, softmax, the time embedding, the sampler's row, codebook distances, inputs and outputs stay in float32.
"""

from __future__ import annotations

import copy
from typing import Any, Literal

import torch
from torch import Tensor, nn

from medseg_export.graphs.to_onnx import onnx_graph
from medseg_runtime.model.bundle import Manifest
from medseg_runtime.model.signatures import GraphName
from medseg_trainer.models.graphs import Networks

LowPrecision = Literal["float16", "bfloat16"]
DTYPES: dict[LowPrecision, torch.dtype] = {"float16": torch.float16, "bfloat16": torch.bfloat16}
OPSETS: dict[LowPrecision, int] = {"float16": 21, "bfloat16": 22}
"""Opset 21 has GroupNormalization as one operator with float32 statistics; opset 22 has Conv in bfloat16."""


def to_low_precision(networks: Networks, precision: LowPrecision) -> Networks:
    """Return a copy of the networks whose convolutions compute in a precision.

    A condition network that ends in a codebook stays in float32: rounding before the codebook selects other codes.
    """
    networks = copy.deepcopy(networks)
    quantized = any(name.endswith("codebook") for name, _ in networks.condition.named_parameters())
    condition = [] if quantized else [networks.condition]
    for network in (*condition, networks.denoiser, networks.mask_autoencoder):
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d):
                layer.to(DTYPES[precision])
            if isinstance(layer, (nn.Conv2d, nn.GroupNorm, nn.Linear)):
                layer.register_forward_pre_hook(_cast_to_weight_type)
    return networks


def _cast_to_weight_type(layer: nn.Module, inputs: tuple[Any, ...]) -> tuple[Tensor, ...]:
    """Cast a layer's input to the type of its weights."""
    (x,) = inputs
    weight = layer.get_parameter("weight")
    return (x.to(weight.dtype),)


def low_precision_graphs(networks: Networks, manifest: Manifest, precision: LowPrecision) -> dict[GraphName, bytes]:
    """Export networks that `to_low_precision` returned, as ONNX files.

    Raises:
        ExportError: torch's exporter or onnx's checker refuses one.
    """
    return {
        name: onnx_graph(name, module, manifest, opset=OPSETS[precision]) for name, module in networks.graphs().items()
    }
