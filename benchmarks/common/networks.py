"""Build the networks of a preset in torch with random weights, and count their multiply-accumulates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import onnx
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.common.cost import Cost
from medseg_runtime.errors import BundleError
from medseg_runtime.model.bundle import Bundle
from medseg_runtime.model.signatures import GraphName
from medseg_trainer.config.presets import PRESETS
from medseg_trainer.config.run import TrainConfig
from medseg_trainer.models.build import build_networks
from medseg_trainer.models.graphs import DecoderGraph, Networks
from medseg_trainer.models.manifest import manifest_of

PARAMETER_TOLERANCE = 0.01
"""Relative. The exporter folds a few constants; another architecture differs by far more."""


def untrained(config: TrainConfig, seed: int = 0) -> Networks:
    """Build the networks of a configuration with random weights.

    Layers that training initializes with zeros get random weights too, so that no result is all zeros.
    """
    torch.manual_seed(seed)
    networks = build_networks(config)
    for module in (networks.condition, networks.denoiser, networks.mask_autoencoder):
        for layer in module.modules():
            if isinstance(layer, (nn.Conv2d, nn.Linear)) and not layer.weight.any():
                nn.init.normal_(layer.weight, std=0.02)
    return networks


def preset_of(bundle: Bundle) -> TrainConfig:
    """Return the preset whose graphs have the inputs, outputs and number of parameters of a bundle's, with the bundle's sampling.

    Raises:
        BundleError: no preset matches.
    """
    for preset in PRESETS.values():
        config = preset()
        shapes = {name: (graph.inputs, graph.outputs) for name, graph in manifest_of(config).graphs.items()}
        if shapes == {name: (graph.inputs, graph.outputs) for name, graph in bundle.manifest.graphs.items()} and all(
            _same_size(module, bundle.graphs[name]) for name, module in untrained(config).graphs().items()
        ):
            return replace(config, path=bundle.manifest.path, sampling=bundle.manifest.sampling)
    raise BundleError(
        f"no preset has the networks of {bundle.manifest.name}, and the peers must have the same",
        "Add its configuration to trainer/medseg_trainer/config/presets.py.",
    )


def _same_size(module: nn.Module, graph: bytes) -> bool:
    """Compare the number of weights. Of the mask autoencoder, only the decoder is exported."""
    exported = sum(_size(tensor) for tensor in onnx.load_from_string(graph).graph.initializer)
    used = module.autoencoder.decoder if isinstance(module, DecoderGraph) else module
    return abs(exported / parameters(used) - 1.0) < PARAMETER_TOLERANCE


def _size(tensor: onnx.TensorProto) -> int:
    size = 1
    for side in tensor.dims:
        size *= side
    return size


def parameters(module: nn.Module) -> int:
    """Return the number of weights of a network."""
    return sum(parameter.numel() for parameter in module.parameters())


def multiplications(run: Callable[[], object]) -> int:
    """Return the multiply-accumulates of the convolutions and matrix products in one call of `run`."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        run()
    flops: int = counter.get_total_flops()
    return flops // 2  # torch counts two operations per multiply-accumulate


def graph_cost(config: TrainConfig, name: GraphName) -> Cost:
    """Return the multiply-accumulates of one call of a graph."""
    module, inputs = untrained(config).graphs()[name], manifest_of(config).graphs[name].inputs

    def count(samples: int) -> int:
        feeds = {
            key: torch.zeros([samples if side == "N" else side for side in shape]) for key, shape in inputs.items()
        }
        return multiplications(lambda: module(**feeds))

    if name == "encoder":
        return Cost(common=count(1), per_sample=0)
    one, two = count(1), count(2)
    return Cost(common=2 * one - two, per_sample=two - one)
