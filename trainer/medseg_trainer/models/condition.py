"""The condition: image features for the denoiser, computed once per image for all samples and steps.

Shape suffixes: B batch, C image channels, H W pixels.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from medseg_trainer.config.run import ConditionConfig
from medseg_trainer.models.autoencoder import ImageAutoencoder
from medseg_trainer.models.layers import ResidualBlock, UNet, conv3x3, group_norm


class AutoencoderCondition(nn.Module):
    """The paper's condition: the latent of the image autoencoder, frozen or tuned with the denoiser.

    (B, C, H, W) in [0, 1] => (B, Z, H / factor, W / factor).
    """

    def __init__(self, autoencoder: ImageAutoencoder) -> None:
        super().__init__()
        self.bottleneck, self.encoder = autoencoder.bottleneck, autoencoder.encoder

    def forward(self, image_BCHW: Tensor) -> Tensor:
        latent, _ = self.bottleneck(self.encoder(2.0 * image_BCHW - 1.0).float(), None)
        out: Tensor = latent
        return out


class UNetCondition(nn.Module):
    """A U-Net trained with the denoiser. It runs once per image; the denoiser runs once per sample and step.

    (B, C, H, W) in [0, 1] => (B, F, H / factor, W / factor).
    """

    ENTRY = 2
    """Factor of the pixel-unshuffle before the first convolution."""

    def __init__(self, config: ConditionConfig, channels: int, factor: int) -> None:
        super().__init__()
        self.stem = conv3x3(channels * self.ENTRY**2, config.widths[0])
        levels_above = (factor // self.ENTRY).bit_length() - 1
        widths = config.widths
        descend: list[nn.Module] = []
        for level in range(levels_above):
            descend += [
                ResidualBlock(widths[level], widths[level], dropout=config.dropout) for _ in range(config.blocks)
            ]
            descend += [conv3x3(widths[level], widths[level + 1], stride=2)]
        self.descend = nn.Sequential(*descend)
        rest = widths[levels_above:]
        self.unet = UNet(rest, blocks=config.blocks, attention_from=2, dropout=config.dropout)
        self.exit = nn.Sequential(group_norm(rest[0]), nn.SiLU(), conv3x3(rest[0], config.channels))

    def forward(self, image_BCHW: Tensor) -> Tensor:
        features = self.stem(F.pixel_unshuffle(2.0 * image_BCHW - 1.0, self.ENTRY))
        out: Tensor = self.exit(self.unet(self.descend(features)))
        return out
