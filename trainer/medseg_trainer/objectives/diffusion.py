"""The training objective of the denoiser: predict the noise, or the clean latent, of a noisy mask latent.

epsilon   || f(z_t, t, c) - noise ||^2, t uniform in 0..T-1                        (MedSegLatDiff Eqs. 2-5; Ho et al., Eq. 14)
flow      || (f(z_u, u, c) - z_0) / u ||^2: f is the clean latent, the loss that of the velocity (z_u - f) / u
          u logit-normal (Esser et al. 2024, Eq. 19), then shifted towards the noise

Shape suffixes: B batch, R raters, C image channels, F condition channels, H W pixels, h w cells.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medseg_runtime.model.sampler import NUM_TRAIN_TIMESTEPS, ProbabilityPath, alphas_cumprod, shifted, time_features
from medseg_trainer.config.run import TrainConfig
from medseg_trainer.models.autoencoder import MaskAutoencoder
from medseg_trainer.models.denoiser import Denoiser
from medseg_trainer.models.layers import conv3x3

LEAST_TIME = 0.05
"""Smallest u in the loss weight 1 / u^2, which would be unbounded."""


def corrupt(
    path: ProbabilityPath, latent: Tensor, noise: Tensor, time: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Clean latents (N, Z, h, w) => noisy latents, network times (N,), regression targets and loss weights (N,).

    noise: (N, Z, h, w) standard normal.
    time: (N,) standard normal; mapped to t by its quantile, or to u by the sigmoid.
    """
    if path.objective == "epsilon":
        uniform = 0.5 * (1.0 + torch.erf(time * 2**-0.5))
        t = (uniform * NUM_TRAIN_TIMESTEPS).long().clamp(0, NUM_TRAIN_TIMESTEPS - 1)
        power = torch.from_numpy(alphas_cumprod()).to(latent)[t][:, None, None, None]
        noisy = power.sqrt() * latent + (1.0 - power).sqrt() * noise
        return noisy, t.double(), noise, torch.ones_like(time)
    u = torch.from_numpy(shifted(torch.sigmoid(time.double()).cpu().numpy(), path.shift)).to(latent)
    level = u[:, None, None, None]
    noisy = (1.0 - level) * latent + level * noise
    return noisy, NUM_TRAIN_TIMESTEPS * u.double(), latent, u.clamp_min(LEAST_TIME) ** -2


class AuxiliaryHead(nn.Module):
    """Predicts the raters' mean from the condition alone, by cross-entropy: the condition then learns about the mask early."""

    def __init__(self, config: TrainConfig) -> None:
        super().__init__()
        self.num_logits, factor = config.num_logits, config.mask_autoencoder.factor
        self.exit = nn.Sequential(
            conv3x3(config.condition.channels, config.num_logits * factor**2), nn.PixelShuffle(factor)
        )

    def forward(self, condition_BFhw: Tensor, labels_BRHW: Tensor) -> Tensor:
        """Return the loss of one batch."""
        logits = self.exit(condition_BFhw).float()
        if self.num_logits == 1:
            return F.binary_cross_entropy_with_logits(logits, (labels_BRHW > 0).float().mean(dim=1, keepdim=True))
        share = F.one_hot(labels_BRHW.long(), self.num_logits).float().mean(dim=1).permute(0, 3, 1, 2)
        return F.cross_entropy(logits, share)


class DenoiserStage(nn.Module):
    """Condition and denoiser, trained together on the latents of a frozen mask autoencoder."""

    def __init__(self, config: TrainConfig, mask_autoencoder: MaskAutoencoder, condition: nn.Module) -> None:
        super().__init__()
        self.config = config
        self.condition = condition.requires_grad_(config.condition.tuned)
        self.denoiser = Denoiser(config.denoiser, config.latent[0], config.condition.channels)
        self.auxiliary = AuxiliaryHead(config) if config.denoiser.auxiliary_weight else None
        # in a list, so that its weights are not part of this module's state
        self._mask_autoencoder = [mask_autoencoder.requires_grad_(False)]

    def forward(
        self, image_BCHW: Tensor, labels_BRHW: Tensor, noise: Tensor, time: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of one batch, and its parts.

        noise, time: standard normal, (B R, Z, h, w) and (B R,), ordered by image; see `corrupt`.
        """
        config = self.config.denoiser
        condition = self.condition(image_BCHW)
        labels = labels_BRHW.flatten(0, 1)
        autoencoder = self._mask_autoencoder[0]
        with torch.no_grad():
            latent = autoencoder.encode(labels).float()
        noisy, t, target, weight = corrupt(self.config.path, latent, noise, time)
        features = torch.from_numpy(time_features(t.cpu().numpy(), config.time_features)).to(noisy)
        out = self.denoiser(noisy, condition, features).float()
        cell_weight = self._cell_weight(labels_BRHW).repeat_interleave(labels_BRHW.shape[1], dim=0)
        error = (out - target).square().mean(dim=1, keepdim=True) * cell_weight
        denoising = (error.mean(dim=(1, 2, 3)) * weight).mean()
        losses = {"denoising": denoising}
        if self.auxiliary is not None:
            losses["auxiliary"] = self.auxiliary(condition, labels_BRHW)
        return denoising + config.auxiliary_weight * losses.get("auxiliary", denoising.new_zeros(())), losses

    def _cell_weight(self, labels_BRHW: Tensor) -> Tensor:
        """Return the loss weights (B, 1, h, w): more in and next to any rater's mask. Their mean is not normalised."""
        factor = self.config.mask_autoencoder.factor
        marked = (labels_BRHW > 0).any(dim=1, keepdim=True).float()
        near = F.max_pool2d(F.max_pool2d(marked, factor), 3, stride=1, padding=1)
        return 1.0 + (self.config.denoiser.mask_cell_weight - 1.0) * near
