"""Tune the denoiser as a one-step generator of whole masks, by a proper score of its samples.

A denoiser trained by regression predicts, at pure noise, the mean of all plausible masks: one step gives a blur. The energy score
(Gneiting & Raftery 2007, section 4.3; for denoisers De Bortoli et al. 2025, arXiv 2502.02483) instead asks for samples S that are
distributed like the raters' masks Y:

    2 E d(S, Y) - E d(S, S')        over i != j

It is least where both distributions are equal. With d = 1 - IoU it is the generalised energy distance; here d is the same for soft
masks (Ruzicka distance), which has a gradient. The sampler's table then has one row. GED also counts the pairs i = j of its 16
samples, whose distance is 0, so the second term is 15/16 of that over i != j; the same factor is used here.

Two optional terms are added, each with a weight, over the same samples:
- the mean distance in the best matching of samples and raters, 1 - HM-IoU. Alone it would lose rare masks, because its optimum is
  the median of the raters' shares.
- the error of the confidence map against the raters' mean. Alone it would accept any masks with the right mean.

Shape suffixes: B batch, M samples, R raters, K 16 points, C classes, P pixels, Z latent channels, F condition channels, H W pixels, h w cells.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from medseg_runtime.model.noise import BITS, NoiseLaw, sobol_bits
from medseg_runtime.model.sampler import sampler_table, time_features
from medseg_trainer.config.run import EnergyConfig, TrainConfig
from medseg_trainer.models.graphs import Networks

BLOCK = 16
"""Samples of one image whose stratified noise is drawn jointly: the default N. A step uses some of them."""

FEW_PX = 16.0
"""Added to the number of sampled pixels that the confidence's error is divided by."""


def ruzicka_distance(a_P: Tensor, b_P: Tensor) -> Tensor:
    """Return 1 - (sum min + 1) / (sum max + 1) of soft masks in [0, 1], over the last axis.

    For binary masks it is 1 - IoU except for the added pixel, which makes two empty masks equal and the distance continuous there.
    """
    return 1.0 - (torch.minimum(a_P, b_P).sum(dim=-1) + 1.0) / (torch.maximum(a_P, b_P).sum(dim=-1) + 1.0)


def energy_score(drawn_BMCP: Tensor, raters_BRCP: Tensor) -> Tensor:
    """Return 2 E d(S, Y) - E d(S, S') of 16 samples, estimated from M >= 2 of them; the mean over images and classes."""
    first, second = torch.triu_indices(drawn_BMCP.shape[1], drawn_BMCP.shape[1], offset=1)
    to_raters = ruzicka_distance(drawn_BMCP[:, :, None], raters_BRCP[:, None]).mean()
    among = ruzicka_distance(drawn_BMCP[:, first], drawn_BMCP[:, second]).mean()
    return 2.0 * to_raters - (1.0 - 1.0 / BLOCK) * among


def matching_distance(drawn_BMCP: Tensor, raters_BRCP: Tensor) -> Tensor:
    """Return the mean distance in the best one-to-one matching, the mean over images.

    Both sets are repeated to their least common multiple. The distance of a pair is the mean over the classes.
    """
    distance_BMR = ruzicka_distance(drawn_BMCP[:, :, None], raters_BRCP[:, None]).mean(dim=3)
    _, samples, raters = distance_BMR.shape
    size = math.lcm(samples, raters)
    repeated = distance_BMR.tile(1, size // samples, size // raters)
    cost = repeated.detach().cpu().numpy()
    partner = torch.from_numpy(np.stack([linear_sum_assignment(one)[1] for one in cost])).to(repeated.device)
    return repeated.gather(2, partner[:, :, None]).mean()


def confidence_error(drawn_BMCP: Tensor, raters_BRCP: Tensor) -> Tensor:
    """Return the squared error of the confidence against the raters' mean, summed over pixels, per sampled pixel.

    The mean over images and classes. It estimates the error for infinitely many samples: products of the errors of two samples,
    i != j, have no variance term. This is exact for independent samples. For stratified ones, which are negatively correlated, it
    is lower by some hundredths of a pixel's variance. Each image is divided by its sampled pixels, held constant: dividing by the
    raters' pixels would favor empty masks.
    """
    share = raters_BRCP.mean(dim=1, keepdim=True)
    error = drawn_BMCP - share
    samples = error.shape[1]
    products = (error.sum(dim=1).square() - error.square().sum(dim=1)) / (samples * (samples - 1))
    drawn_px = drawn_BMCP.detach().mean(dim=1).sum(dim=-1)
    return (products.sum(dim=-1) / (drawn_px + FEW_PX)).mean()


def starting_noise(law: NoiseLaw, normal_BMZhw: Tensor, shift_BZ: Tensor, order_BK: Tensor) -> Tensor:
    """Return the noise (B, M, Z, h, w) of M of the 16 samples of each image, distributed as in `medseg_runtime.model.noise`.

    normal: standard normal. shift: uniform in [0, 1), one digital shift for each image. order: (B, 16) uniform; the samples with
    the M smallest values are used.
    """
    if not law.stratified:
        return normal_BMZhw
    samples, channels = normal_BMZhw.shape[1:3]
    points = np.stack([sobol_bits(k, channels) for k in range(BLOCK)]).astype(np.int64)
    chosen_BMZ = torch.from_numpy(points).to(shift_BZ.device)[order_BK.argsort(dim=1)[:, :samples]]
    shift = (shift_BZ.double() * 2.0**BITS).long()[:, None]
    uniform = ((chosen_BMZ ^ shift).double() + 0.5) / 2.0**BITS
    common = math.sqrt(2.0) * torch.erfinv(2.0 * uniform - 1.0)
    own, shared = math.sqrt(1.0 - law.stratified), math.sqrt(law.stratified)
    return own * normal_BMZhw + shared * common.float()[..., None, None]


class EnergyStage(nn.Module):
    """Condition and denoiser, tuned through the frozen mask decoder."""

    def __init__(self, config: TrainConfig, settings: EnergyConfig, networks: Networks) -> None:
        super().__init__()
        self.config, self.settings = config, settings
        self.condition = networks.condition.requires_grad_(config.condition.tuned)
        self.denoiser = networks.denoiser
        # in a list, so that its weights are not part of this module's state
        self._mask_autoencoder = [networks.mask_autoencoder.requires_grad_(False)]

    def forward(self, image_BCHW: Tensor, labels_BRHW: Tensor, noise_BMZhw: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of one batch, and its parts."""
        condition = self.condition(image_BCHW)
        drawn = self._draw(condition, noise_BMZhw)
        raters = self._raters(labels_BRHW)
        weighted = [(1.0, "energy", energy_score(drawn, raters))]
        if self.settings.matching_weight:
            weighted.append((self.settings.matching_weight, "matching", matching_distance(drawn, raters)))
        if self.settings.confidence_weight:
            weighted.append((self.settings.confidence_weight, "confidence", confidence_error(drawn, raters)))
        total = torch.stack([weight * loss for weight, _, loss in weighted]).sum()
        return total, {name: loss for _, name, loss in weighted}

    def _draw(self, condition: Tensor, noise_BMZhw: Tensor) -> Tensor:
        """Noise => soft masks (B, M, classes, P), sampled by the rows of the sampler's table, as in the runtime."""
        sampling = self.config.tuned_sampling
        table = sampler_table(self.config.path, sampling.sampler, sampling.steps)
        latent = noise_BMZhw.flatten(0, 1)
        features = torch.from_numpy(time_features(table.t, self.config.denoiser.time_features)).to(latent)
        for row, feature in zip(table.rows, features, strict=True):
            p, q, a, b, _ = (float(x) for x in row)
            latent = a * latent + b * (p * latent + q * self.denoiser(latent, condition, feature[None]).float())
        logits = self._mask_autoencoder[0].decode(latent).float()
        soft = logits.sigmoid() if self.config.num_logits == 1 else logits.softmax(dim=1)[:, 1:]
        out: Tensor = soft.reshape(*noise_BMZhw.shape[:2], soft.shape[1], -1)
        return out

    def _raters(self, labels_BRHW: Tensor) -> Tensor:
        """Labels 0..classes => binary masks (B, R, classes, P)."""
        classes = torch.arange(1, len(self.config.classes) + 1, device=labels_BRHW.device)
        return (labels_BRHW[:, :, None] == classes[:, None, None]).float().flatten(3)
