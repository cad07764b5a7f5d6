"""A float32 network => the same in float16 or bfloat16, made in torch, where the types are plain to see.

Converters of finished graphs put into float16 what must not be: norms, whose sums of squares overflow into black masks, and the time
embedding. Here convolutions alone change their type, and with them what flows between them: residual streams, skips, the products
of attention. Norms, softmax, the time embedding, the sampler's row, a codebook's distances, inputs and outputs stay float32.
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
"""From 21 on GroupNormalization is one operator with float32 statistics, from 22 on Conv takes bfloat16."""


def lowered(networks: Networks, precision: LowPrecision) -> Networks:
    """Return a copy whose convolutions compute in the precision.

    All but those of a condition that ends in a codebook: rounding before it would become other codes, not other last digits.
    """
    networks = copy.deepcopy(networks)
    quantised = any(name.endswith("codebook") for name, _ in networks.condition.named_parameters())
    condition = [] if quantised else [networks.condition]
    for network in (*condition, networks.denoiser, networks.mask_autoencoder):
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d):
                layer.to(DTYPES[precision])
            if isinstance(layer, (nn.Conv2d, nn.GroupNorm, nn.Linear)):
                layer.register_forward_pre_hook(_in_type_of_weights)
    return networks


def _in_type_of_weights(layer: nn.Module, inputs: tuple[Any, ...]) -> tuple[Tensor, ...]:
    """Cast a layer's input to the type that its weights have."""
    (x,) = inputs
    weight = layer.get_parameter("weight")
    return (x.to(weight.dtype),)


def half_graphs(networks: Networks, manifest: Manifest, precision: LowPrecision) -> dict[GraphName, bytes]:
    """Export networks that `lowered` made.

    Raises:
        ExportError: torch's exporter, or onnx's checker, refuses one.
    """
    return {
        name: onnx_graph(name, module, manifest, opset=OPSETS[precision]) for name, module in networks.graphs().items()
    }
