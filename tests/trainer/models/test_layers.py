"""The blocks of the networks, each against an independent statement of its formula."""

import pytest
import torch
import torch.nn.functional as F

from medseg_trainer.models.layers import Attention, ResidualBlock, UNet
from tests.trainer.models.networks import randomised


def test_attention_is_torch_s_own():
    attention = randomised(Attention(64))
    x = torch.randn(2, 64, 3, 5)
    normed = attention.norm(x)
    heads = [p(normed).reshape(2, 2, 32, 15).transpose(2, 3) for p in (attention.query, attention.key, attention.value)]
    mixed = F.scaled_dot_product_attention(*heads).transpose(2, 3).reshape(2, 64, 3, 5)
    torch.testing.assert_close(attention(x), x + attention.out(mixed), atol=1e-5, rtol=1e-5)


def test_a_residual_block_starts_as_its_shortcut():
    x, time = torch.randn(2, 16, 4, 4), torch.randn(1, 8)
    block = ResidualBlock(16, 32, time_width=8)
    torch.nn.init.zeros_(block.conv2.bias)
    torch.testing.assert_close(block(x, time), block.shortcut(x))


def test_time_scales_and_shifts_between_the_convolutions():
    block, x, time = randomised(ResidualBlock(16, 16, time_width=8)), torch.randn(2, 16, 4, 4), torch.randn(1, 8)
    scale, shift = (part[:, :, None, None] for part in block.time(time).split(16, dim=1))
    hidden = block.norm2(block.conv1(F.silu(block.norm1(x))))
    torch.testing.assert_close(block(x, time), x + block.conv2(F.silu(hidden * (1 + scale) + shift)))


@pytest.mark.parametrize("attention_from", [0, 2, 3])
def test_a_unet_keeps_its_shape(attention_from):
    unet = randomised(UNet((32, 32, 64), blocks=1, attention_from=attention_from, time_width=8))
    assert unet(torch.randn(2, 32, 8, 12), torch.randn(1, 8)).shape == (2, 32, 8, 12)
    assert sum(isinstance(module, Attention) for module in unet.modules()) == 2 * (3 - attention_from)
