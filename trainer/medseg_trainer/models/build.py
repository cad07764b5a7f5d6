"""Build the networks of a configuration, with initial weights."""

from __future__ import annotations

from torch import nn

from medseg_trainer.config.run import TrainConfig
from medseg_trainer.models.autoencoder import ImageAutoencoder, MaskAutoencoder
from medseg_trainer.models.condition import AutoencoderCondition, UNetCondition
from medseg_trainer.models.denoiser import Denoiser
from medseg_trainer.models.graphs import Networks


def build_condition(config: TrainConfig) -> nn.Module:
    """Return the network that turns an image into the condition."""
    channels = config.input.channels
    if config.condition.autoencoder is not None:
        return AutoencoderCondition(ImageAutoencoder(config.condition.autoencoder, channels))
    return UNetCondition(config.condition, channels, config.mask_autoencoder.factor)


def build_mask_autoencoder(config: TrainConfig) -> MaskAutoencoder:
    """Return the mask autoencoder."""
    return MaskAutoencoder(config.mask_autoencoder, config.num_logits)


def build_networks(config: TrainConfig) -> Networks:
    """Return the condition, the denoiser and the mask autoencoder."""
    return Networks(
        condition=build_condition(config),
        denoiser=Denoiser(config.denoiser, config.latent[0], config.condition.channels),
        mask_autoencoder=build_mask_autoencoder(config),
    )
