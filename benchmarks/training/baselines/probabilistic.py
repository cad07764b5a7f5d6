"""The Probabilistic U-Net of Kohl et al. 2018 (arXiv 1806.05034), reimplemented with the trainer's blocks.

image          => U-Net => features (B, F, H, W)
image          => prior     => N(mean, deviation^2) over Z = 6 numbers
image, mask    => posterior => the same, in training only
features, z    => three 1x1 convolutions => logits

Trained by the evidence lower bound: cross-entropy of one rater's mask with z from the posterior, plus beta times the divergence of
the posterior from the prior. The paper sums both over pixels. Here the sum is divided by the number of pixels, so that learning rates
compare. Blocks, normalization and the half-resolution entry are those of our condition network, which learns faster than the paper's
plain convolutions and makes a stronger baseline.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.training.baselines.baseline import Baseline
from medseg_trainer.models.layers import ResidualBlock, UNet, conv3x3, group_norm

LATENT = 6
BETA = 1.0
ENTRY = 2
"""Factor of the pixel-unshuffle at the entries and the pixel-shuffle at the exit: convolutions start at half resolution."""


@dataclass(frozen=True, slots=True)
class Gaussian:
    """Independent normal distributions, (B, Z)."""

    mean: Tensor
    log_deviation: Tensor

    def at(self, noise: Tensor) -> Tensor:
        """Return a sample: standard normal noise (B, Z), scaled and shifted."""
        return self.mean + self.log_deviation.exp() * noise

    def divergence(self, other: Gaussian) -> Tensor:
        """Return KL(self || other) in nats, (B,)."""
        log_ratio = other.log_deviation - self.log_deviation
        scaled = (self.mean - other.mean) * (-other.log_deviation).exp()
        return (log_ratio + 0.5 * ((-2.0 * log_ratio).exp() + scaled.square() - 1.0)).sum(dim=1)


class GaussianNet(nn.Module):
    """An encoder that ends in a Gaussian: (B, channels, H, W) => `Gaussian` over `LATENT` numbers."""

    def __init__(self, channels: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.stem = conv3x3(channels * ENTRY**2, widths[0])
        descend: list[nn.Module] = []
        for level, width in enumerate(widths):
            descend += [conv3x3(widths[level - 1], width, stride=2)] if level else []
            descend += [ResidualBlock(width, width)]
        self.descend = nn.Sequential(*descend, group_norm(widths[-1]), nn.SiLU())
        self.exit = nn.Linear(widths[-1], 2 * LATENT)

    def forward(self, x_BCHW: Tensor) -> Gaussian:
        hidden = self.descend(self.stem(F.pixel_unshuffle(x_BCHW, ENTRY)))
        mean, log_deviation = self.exit(hidden.mean(dim=(2, 3))).float().chunk(2, dim=1)
        return Gaussian(mean, log_deviation.clamp(-10.0, 10.0))


class Combination(nn.Module):
    """Features and one latent => logits, by three 1x1 convolutions.

    The first convolution acts on features and latent, concatenated at every pixel. It is computed as the sum of two: the one on the
    features does not depend on the sample and is shared by all samples of an image.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.features_in = nn.Conv2d(features, features, 1)
        self.latent_in = nn.Linear(LATENT, features, bias=False)
        self.rest = nn.Sequential(nn.ReLU(), nn.Conv2d(features, features, 1), nn.ReLU(), nn.Conv2d(features, 1, 1))

    def forward(self, features_BFHW: Tensor, z_NZ: Tensor) -> Tensor:
        """Return logits (N, 1, H, W). B is N or 1."""
        logits: Tensor = self.rest(self.features_in(features_BFHW) + self.latent_in(z_NZ)[:, :, None, None])
        return logits.float()


@dataclass(frozen=True, slots=True)
class Encoded:
    """Features and prior of one image, shared by all its samples."""

    features: Tensor
    """(1, F, H, W)."""
    prior: Gaussian


class ProbabilisticUNet(Baseline):
    """The network, for one class and any number of raters."""

    latent_channels = LATENT

    def __init__(self, channels: int, widths: tuple[int, ...], features: int, encoder_widths: tuple[int, ...]) -> None:
        """Build it.

        widths: of the U-Net's levels from half the image's resolution down.
        features: channels at full resolution.
        encoder_widths: of the levels of prior and posterior.
        """
        super().__init__()
        self.stem = conv3x3(channels * ENTRY**2, widths[0])
        self.unet = UNet(widths, blocks=1, attention_from=len(widths))
        self.exit = nn.Sequential(
            group_norm(widths[0]), nn.SiLU(), conv3x3(widths[0], features * ENTRY**2), nn.PixelShuffle(ENTRY)
        )
        self.prior = GaussianNet(channels, encoder_widths)
        self.posterior = GaussianNet(channels + 1, encoder_widths)
        self.combination = Combination(features)

    def forward(self, image_BCHW: Tensor, labels_BHW: Tensor, noise_BZ: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of one batch and its parts.

        labels: one rater's mask per image. noise: standard normal. Parts: `reconstruction`, mean over pixels; `divergence`, nats per image.
        """
        image = 2.0 * image_BCHW - 1.0
        target = (labels_BHW > 0).float()[:, None]
        prior, posterior = self.prior(image), self.posterior(torch.cat([image, 2.0 * target - 1.0], dim=1))
        logits = self.combination(self._features(image), posterior.at(noise_BZ))
        reconstruction = F.binary_cross_entropy_with_logits(logits, target)
        divergence = posterior.divergence(prior).mean()
        loss = reconstruction + BETA * divergence / target[0].numel()
        return loss, {"reconstruction": reconstruction, "divergence": divergence}

    def encode(self, image_1CHW: Tensor) -> Encoded:
        image = 2.0 * image_1CHW - 1.0
        return Encoded(self._features(image), self.prior(image))

    def draw(self, encoded: Encoded, noise_NZ: Tensor) -> Tensor:
        """Return logits of samples with latents from the prior."""
        out: Tensor = self.combination(encoded.features, encoded.prior.at(noise_NZ))
        return out

    def _features(self, image_BCHW: Tensor) -> Tensor:
        out: Tensor = self.exit(self.unet(self.stem(F.pixel_unshuffle(image_BCHW, ENTRY))))
        return out
