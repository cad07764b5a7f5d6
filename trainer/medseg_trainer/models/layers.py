"""The blocks of all networks.

Shape suffixes: B batch, F features, T time features, h w cells.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GROUP_WIDTH = 16
"""Channels per normalisation group."""


def group_norm(channels: int) -> nn.GroupNorm:
    """Return group normalisation in groups of 16 channels (Wu & He 2018)."""
    return nn.GroupNorm(max(1, channels // GROUP_WIDTH), channels)


def conv3x3(inputs: int, outputs: int, *, stride: int = 1) -> nn.Conv2d:
    """Return a 3x3 convolution that keeps the size (stride 1) or halves it (stride 2)."""
    return nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1)


class ResidualBlock(nn.Module):
    """Two convolutions and a shortcut. The time embedding scales and shifts between them (Dhariwal & Nichol 2021)."""

    def __init__(self, inputs: int, outputs: int, *, time_width: int = 0, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm1, self.conv1 = group_norm(inputs), conv3x3(inputs, outputs)
        self.norm2, self.conv2 = group_norm(outputs), conv3x3(outputs, outputs)
        self.time = nn.Linear(time_width, 2 * outputs) if time_width else None
        self.shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        nn.init.zeros_(self.conv2.weight)  # the block starts as its shortcut

    def forward(self, x_BFhw: Tensor, time_BT: Tensor | None = None) -> Tensor:
        hidden = self.norm2(self.conv1(F.silu(self.norm1(x_BFhw))))
        if self.time is not None and time_BT is not None:
            scale, shift = self.time(time_BT)[:, :, None, None].chunk(2, dim=1)
            hidden = hidden * (1 + scale) + shift
        out: Tensor = self.shortcut(x_BFhw) + self.conv2(self.dropout(F.silu(hidden)))
        return out


class Attention(nn.Module):
    """Self-attention over all cells. The projections are 1x1 convolutions, which keep the layout (7 % faster in bf16)."""

    HEAD_WIDTH = 32

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.heads = channels // self.HEAD_WIDTH
        self.norm = group_norm(channels)
        self.query, self.key, self.value, self.out = (nn.Conv2d(channels, channels, 1) for _ in range(4))
        nn.init.zeros_(self.out.weight)

    def forward(self, x_BFhw: Tensor) -> Tensor:
        batch, channels, height, width = x_BFhw.shape
        split = (batch, self.heads, self.HEAD_WIDTH, height * width)
        normed = self.norm(x_BFhw)
        query, key, value = (project(normed).reshape(split) for project in (self.query, self.key, self.value))
        scores = (query.transpose(2, 3) @ key).float() * self.HEAD_WIDTH**-0.5  # softmax needs float32
        weights = torch.softmax(scores, dim=-1).to(value.dtype)
        mixed = (value @ weights.transpose(2, 3)).reshape(batch, channels, height, width)
        out: Tensor = x_BFhw + self.out(mixed)
        return out


class UNet(nn.Module):
    """A U-Net: residual blocks at each level, attention at the coarse levels, skip connections.

    (B, widths[0], h, w) => (B, widths[0], h, w); h and w must be divisible by 2^(len(widths) - 1).
    """

    def __init__(
        self, widths: tuple[int, ...], *, blocks: int, attention_from: int, time_width: int = 0, dropout: float = 0.0
    ) -> None:
        """Build the U-Net.

        widths: channels of each level, the finest first.
        blocks: residual blocks per level and direction.
        attention_from: first level with attention; len(widths): none.
        dropout: dropout rate of each block.
        """
        super().__init__()
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        self.shrink, self.grow = nn.ModuleList(), nn.ModuleList()
        for level, width in enumerate(widths):
            self.down.append(_Level(width, width, blocks, level >= attention_from, time_width, dropout))
            self.up.append(_Level(2 * width, width, blocks, level >= attention_from, time_width, dropout))
            if level + 1 < len(widths):
                self.shrink.append(conv3x3(width, widths[level + 1], stride=2))
                self.grow.append(conv3x3(widths[level + 1], width))
        self.middle = ResidualBlock(widths[-1], widths[-1], time_width=time_width, dropout=dropout)

    def forward(self, x_BFhw: Tensor, time_BT: Tensor | None = None) -> Tensor:
        skips = []
        for level, down in enumerate(self.down):
            x_BFhw = down(x_BFhw, time_BT)
            skips.append(x_BFhw)
            if level < len(self.shrink):
                x_BFhw = self.shrink[level](x_BFhw)
        x_BFhw = self.middle(x_BFhw, time_BT)
        for level in reversed(range(len(self.up))):
            if level < len(self.grow):
                x_BFhw = self.grow[level](F.interpolate(x_BFhw, scale_factor=2.0, mode="nearest"))
            x_BFhw = self.up[level](torch.cat([x_BFhw, skips[level]], dim=1), time_BT)
        return x_BFhw


class _Level(nn.Module):
    """The residual blocks and the attention of one level and direction."""

    def __init__(self, inputs: int, width: int, blocks: int, attention: bool, time_width: int, dropout: float) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            ResidualBlock(inputs if index == 0 else width, width, time_width=time_width, dropout=dropout)
            for index in range(blocks)
        )
        self.attention = Attention(width) if attention else None

    def forward(self, x_BFhw: Tensor, time_BT: Tensor | None) -> Tensor:
        for block in self.blocks:
            x_BFhw = block(x_BFhw, time_BT)
        return x_BFhw if self.attention is None else self.attention(x_BFhw)
