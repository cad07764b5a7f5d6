"""The denoiser: a U-Net on the noisy mask latent and the condition (MedSegLatDiff, Eq. 11).

Shape suffixes: B batch, Z latent channels, F condition channels, T time features, h w cells.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from medseg_trainer.config.run import DenoiserConfig
from medseg_trainer.models.layers import UNet, conv3x3, group_norm


class Denoiser(nn.Module):
    """f(z, t, condition) => noise or clean latent, depending on the objective.

    The first convolution of the channel concatenation is split, W [z; c] = W_z z + W_c c. The second term is the same for all
    samples, so a condition of batch 1 is convolved once and broadcast.
    """

    def __init__(self, config: DenoiserConfig, latent_channels: int, condition_channels: int) -> None:
        super().__init__()
        width, time_width = config.widths[0], 2 * config.time_features
        self.latent_in = conv3x3(latent_channels, width)
        self.condition_in = nn.Conv2d(condition_channels, width, 3, padding=1, bias=False)
        self.time = nn.Sequential(
            nn.Linear(config.time_features, time_width), nn.SiLU(), nn.Linear(time_width, time_width), nn.SiLU()
        )
        self.unet = UNet(
            config.widths, blocks=config.blocks, attention_from=config.attention_from, time_width=time_width
        )
        self.norm = group_norm(width)
        self.exit = conv3x3(width, latent_channels)
        nn.init.zeros_(self.exit.weight)

    def forward(self, z_BZhw: Tensor, condition_BFhw: Tensor, time_features_BT: Tensor) -> Tensor:
        """Return the network's output, (B, Z, h, w).

        condition: batch 1, or a divisor of B; each condition then belongs to B / batch consecutive latents.
        time_features: (1 or B, T), from `medseg_runtime.model.sampler.time_features`.
        """
        common = self.condition_in(condition_BFhw)
        if 1 < common.shape[0] < z_BZhw.shape[0]:
            common = common.repeat_interleave(z_BZhw.shape[0] // common.shape[0], dim=0)
        hidden = self.unet(self.latent_in(z_BZhw) + common, self.time(time_features_BT))
        out: Tensor = self.exit(F.silu(self.norm(hidden)))
        return out
