"""The baselines by name: network, loss and optimisation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from benchmarks.common.networks import parameters
from benchmarks.training.baselines.baseline import Baseline
from benchmarks.training.baselines.probabilistic import LATENT, ProbabilisticUNet
from benchmarks.training.baselines.unet import DeterministicUNet
from medseg_trainer.config.run import TrainConfig
from medseg_trainer.data.working_set import Batch
from medseg_trainer.models.build import build_networks
from medseg_trainer.training.stages import Draws, Losses, random_raters


@dataclass(frozen=True, kw_only=True, slots=True)
class Contender:
    """One baseline."""

    key: str
    title: str
    build: Callable[[TrainConfig], Baseline]
    """Build the network, with at least about as many weights as the configuration's own."""
    losses: Callable[[nn.Module, Batch, Draws], Losses]
    batch_size: int
    learning_rate: float
    samples: int
    """Masks per image when measured."""


def model_size(config: TrainConfig) -> int:
    """Return the number of weights of our model: condition, denoiser and mask autoencoder."""
    with torch.device("meta"):
        networks = build_networks(config)
    return sum(parameters(part) for part in (networks.condition, networks.denoiser, networks.mask_autoencoder))


def _unet(config: TrainConfig) -> Baseline:
    return DeterministicUNet.at_least(config.input.channels, model_size(config))


def _unet_losses(module: nn.Module, batch: Batch, _: Draws) -> Losses:
    out: Losses = module(batch.image, batch.labels)
    return out


def _probabilistic(config: TrainConfig) -> Baseline:
    return ProbabilisticUNet(
        config.input.channels, widths=(64, 96, 176, 272), features=32, encoder_widths=(32, 80, 128, 256)
    )


def _probabilistic_losses(module: nn.Module, batch: Batch, draws: Draws) -> Losses:
    out: Losses = module(batch.image, random_raters(batch.labels, draws, 1)[:, 0], draws.normal(LATENT))
    return out


CONTENDERS = {
    contender.key: contender
    for contender in (
        Contender(
            key="unet",
            title="(a) MONAI U-Net",
            build=_unet,
            losses=_unet_losses,
            batch_size=24,
            learning_rate=1e-3,
            samples=1,
        ),
        Contender(
            key="probabilistic-unet",
            title="(b) Probabilistic U-Net",
            build=_probabilistic,
            losses=_probabilistic_losses,
            batch_size=24,
            learning_rate=1e-3,
            samples=16,
        ),
    )
}
