"""Autoencoders of masks and of images. Diffusion runs in the latent of the masks.

The latent has `factor` times fewer rows and columns than the image. A pixel-unshuffle entry and a pixel-shuffle exit keep all
convolutions at that size: at full resolution they would cost more than the denoiser.

Shape suffixes: B batch, C image channels, K logits, Z latent channels, M moments (Z or 2 Z), H W pixels, h w cells.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medseg_trainer.config.run import AutoencoderConfig, Regulariser
from medseg_trainer.models.layers import ResidualBlock, conv3x3


class Encoder(nn.Module):
    """Pixels => cells: (B, C, H, W) => (B, outputs, H / factor, W / factor)."""

    def __init__(self, config: AutoencoderConfig, channels: int, outputs: int) -> None:
        super().__init__()
        self.entry = nn.Sequential(nn.PixelUnshuffle(config.factor), conv3x3(channels * config.factor**2, config.width))
        self.blocks = nn.Sequential(*(ResidualBlock(config.width, config.width) for _ in range(config.blocks)))
        self.exit = nn.Conv2d(config.width, outputs, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        out: Tensor = self.exit(F.silu(self.blocks(self.entry(x_BCHW))))
        return out


class Decoder(nn.Module):
    """Cells => pixels: (B, Z, h, w) => (B, outputs, h factor, w factor)."""

    def __init__(self, config: AutoencoderConfig, outputs: int) -> None:
        super().__init__()
        self.entry = conv3x3(config.latent_channels, config.width)
        self.blocks = nn.Sequential(*(ResidualBlock(config.width, config.width) for _ in range(config.blocks)))
        self.exit = nn.Sequential(conv3x3(config.width, outputs * config.factor**2), nn.PixelShuffle(config.factor))

    def forward(self, z_BZhw: Tensor) -> Tensor:
        out: Tensor = self.exit(F.silu(self.blocks(self.entry(z_BZhw))))
        return out


class Bottleneck(nn.Module):
    """Regularises the latent.

    vq      nearest vector of a codebook, straight-through gradient (van den Oord et al. 2017, Eq. 3): the paper's
    kl      a Gaussian with its divergence from N(0, I) as a small penalty (Rombach et al. 2022)
    sphere  each cell scaled to the sphere of radius sqrt(Z): unit mean square
    """

    COMMITMENT = 0.25

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.kind: Regulariser = config.regulariser
        self.kl_weight = config.kl_weight
        if self.kind == "vq":
            self.codebook = nn.Parameter(torch.randn(config.codebook_size, config.latent_channels))

    @property
    def moments(self) -> int:
        """Encoder outputs for each latent channel: mean and log-variance for `kl`, otherwise the value."""
        return 2 if self.kind == "kl" else 1

    def forward(self, h_BMhw: Tensor, noise_BZhw: Tensor | None) -> tuple[Tensor, Tensor]:
        """Encoder output => latent and penalty. `kl` samples its Gaussian with the noise; None: it takes the mean."""
        none = h_BMhw.new_zeros(())
        if self.kind == "sphere":
            return h_BMhw * torch.rsqrt(h_BMhw.square().mean(dim=1, keepdim=True) + 1e-6), none
        if self.kind == "kl":
            mean, log_variance = h_BMhw.chunk(2, dim=1)
            log_variance = log_variance.clamp(-20.0, 10.0)
            divergence = 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).mean()
            latent = mean if noise_BZhw is None else mean + (0.5 * log_variance).exp() * noise_BZhw
            return latent, self.kl_weight * divergence
        quantised = self.nearest_code(h_BMhw)
        penalty = F.mse_loss(quantised, h_BMhw.detach()) + self.COMMITMENT * F.mse_loss(h_BMhw, quantised.detach())
        return h_BMhw + (quantised - h_BMhw).detach(), penalty

    def nearest_code(self, z_BZhw: Tensor) -> Tensor:
        """Replace the vector of each cell by the nearest one of the codebook."""
        z_BhwZ = z_BZhw.permute(0, 2, 3, 1)
        distance = self.codebook.square().sum(dim=1) - 2.0 * z_BhwZ @ self.codebook.T
        return self.codebook[distance.argmin(dim=-1)].permute(0, 3, 1, 2)


class MaskAutoencoder(nn.Module):
    """Masks <=> latents. Its loss is the paper's weighted cross-entropy, which preserves tiny structures."""

    class_weight: Tensor
    latent_scale: Tensor

    def __init__(self, config: AutoencoderConfig, num_logits: int) -> None:
        super().__init__()
        self.config = config
        self.num_logits = num_logits
        self.bottleneck = Bottleneck(config)
        self.encoder = Encoder(config, num_logits, config.latent_channels * self.bottleneck.moments)
        self.decoder = Decoder(config, num_logits)
        # background first; two weights for K = 1
        self.register_buffer("class_weight", torch.ones(max(2, num_logits)))
        self.register_buffer("latent_scale", torch.ones(()))

    def one_hot(self, labels_BHW: Tensor) -> Tensor:
        """Labels 0..classes => (B, K, H, W) in {-1, 1}: the foreground for K = 1, otherwise one channel for each label."""
        if self.num_logits == 1:
            return 2.0 * (labels_BHW > 0).float()[:, None] - 1.0
        return 2.0 * F.one_hot(labels_BHW.long(), self.num_logits).permute(0, 3, 1, 2).float() - 1.0

    def encode(self, labels_BHW: Tensor) -> Tensor:
        """Labels => latent (B, Z, h, w), times `latent_scale`."""
        latent, _ = self.bottleneck(self.encoder(self.one_hot(labels_BHW)), None)
        out: Tensor = latent * self.latent_scale
        return out

    def decode(self, z_BZhw: Tensor) -> Tensor:
        """Latent => logits (B, K, H, W) of the unweighted classes, so that probability 0.5 is the threshold.

        Training with class weights w adds log w to the optimal logits (Elkan 2001). It is subtracted here.
        """
        latent = z_BZhw / self.latent_scale
        if self.bottleneck.kind == "vq":
            latent = self.bottleneck.nearest_code(latent)
        logits: Tensor = self.decoder(latent).float()
        return logits if self.config.reconstruction == "mse" else logits - self._log_weight()

    def _log_weight(self) -> Tensor:
        log_weight = self.class_weight.log()
        return log_weight[1] - log_weight[0] if self.num_logits == 1 else log_weight[None, :, None, None]

    def forward(
        self, labels_BHW: Tensor, noise_BZhw: Tensor, noise_level_B: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of one batch, and its parts.

        noise_level_B: standard deviation, in [0, 1], of the noise added to the latent; `sphere` only.
        """
        latent, penalty = self.bottleneck(self.encoder(self.one_hot(labels_BHW)), noise_BZhw)
        if self.bottleneck.kind == "sphere":
            latent = latent + noise_level_B[:, None, None, None] * noise_BZhw
        reconstruction = self.reconstruction_loss(self.decoder(latent).float(), labels_BHW)
        return reconstruction + penalty.float(), {"reconstruction": reconstruction, "penalty": penalty}

    def reconstruction_loss(self, logits_BKHW: Tensor, labels_BHW: Tensor) -> Tensor:
        """Return the weighted cross-entropy (the paper), or the mean squared error of the ablation."""
        if self.config.reconstruction == "mse":
            # targets of -1 and 1 keep the threshold at logit 0
            return F.mse_loss(logits_BKHW, self.one_hot(labels_BHW))
        weight = self.class_weight
        if self.num_logits > 1:
            return F.cross_entropy(logits_BKHW, labels_BHW.long(), weight=weight, reduction="none").mean()
        target = (labels_BHW > 0).float()[:, None]
        return F.binary_cross_entropy_with_logits(logits_BKHW, target, pos_weight=weight[1] / weight[0])


def class_weights(frequency: Tensor) -> Tensor:
    """Return the weight of each class from its share of the pixels: sqrt(share of background / share of class).

    The paper does not state its weights. On LIDC the inverse share, 80, makes masks too large; its root, 9, does not.

    frequency: (classes + 1,) share of the pixels, background first. Returns the same shape; background weighs 1.
    """
    return torch.sqrt(frequency[0] / frequency.clamp_min(1e-6)).clamp(max=math.sqrt(1e3))


class ImageAutoencoder(nn.Module):
    """Images <=> latents. Its encoder is the paper's condition (Eq. 11)."""

    def __init__(self, config: AutoencoderConfig, channels: int) -> None:
        super().__init__()
        self.bottleneck = Bottleneck(config)
        self.encoder = Encoder(config, channels, config.latent_channels * self.bottleneck.moments)
        self.decoder = Decoder(config, channels)

    def forward(self, image_BCHW: Tensor, noise_BZhw: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of one batch, and its parts."""
        target = 2.0 * image_BCHW - 1.0
        latent, penalty = self.bottleneck(self.encoder(target), noise_BZhw)
        reconstruction = F.mse_loss(self.decoder(latent).float(), target)
        return reconstruction + penalty.float(), {"reconstruction": reconstruction, "penalty": penalty}
