"""A deterministic U-Net from MONAI, the usual choice for segmentation: one mask and a probability map."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from monai.networks.nets.unet import UNet
from torch import Tensor, nn

from benchmarks.common.networks import parameters
from benchmarks.training.baselines.baseline import Baseline
from medseg_trainer.models.layers import group_norm

WIDTHS = range(8, 257, 8)
"""Candidate widths of the finest level."""
GROUPS = 8
FEATURES = 32
"""Output channels of MONAI's network, before one more 1x1 convolution. With a single output channel, MONAI normalizes the whole map: all
masks were still empty after 700 steps."""


class DeterministicUNet(Baseline):
    """The network, for one class. It learns the probability that a random rater marks a pixel: cross-entropy against the raters' mean."""

    latent_channels = 1
    """Unused: every sample is the same."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.network: nn.Module = UNet(
            spatial_dims=2,
            in_channels=channels,
            out_channels=FEATURES,
            channels=(width, 2 * width, 4 * width, 8 * width),
            strides=(2, 2, 2),
            num_res_units=2,
            norm=("group", {"num_groups": GROUPS}),
        )
        self.exit = nn.Sequential(group_norm(FEATURES), nn.SiLU(), nn.Conv2d(FEATURES, 1, 1))

    @classmethod
    def at_least(cls, channels: int, size: int) -> DeterministicUNet:
        """Build the smallest network with at least `size` weights."""
        with torch.device("meta"):  # counts weights without allocating them
            width = next(width for width in WIDTHS if parameters(cls(channels, width)) >= size)
        return cls(channels, width)

    def forward(self, image_BCHW: Tensor, labels_BRHW: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of one batch; it has no parts."""
        mean = (labels_BRHW > 0).float().mean(dim=1, keepdim=True)
        return F.binary_cross_entropy_with_logits(self._logits(image_BCHW), mean), {}

    def encode(self, image_1CHW: Tensor) -> Tensor:
        """Return the logits."""
        return self._logits(image_1CHW)

    def draw(self, encoded: Tensor, noise_NZ: Tensor) -> Tensor:
        """Return the same logits for every sample."""
        return encoded.expand(len(noise_NZ), -1, -1, -1)

    def _logits(self, image_BCHW: Tensor) -> Tensor:
        out: Tensor = self.exit(self.network(2.0 * image_BCHW - 1.0))
        return out.float()
