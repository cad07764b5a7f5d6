"""The denoiser: its split first convolution, and how conditions are shared."""

import torch
import torch.nn.functional as F

from medseg_trainer.models.denoiser import Denoiser
from tests.trainer.models.networks import features


def test_the_split_first_convolution_is_that_of_the_concatenation(denoiser):
    z, condition = torch.randn(2, 4, 8, 8), torch.randn(2, 8, 8, 8)
    weight = torch.cat([denoiser.latent_in.weight, denoiser.condition_in.weight], dim=1)
    whole = F.conv2d(torch.cat([z, condition], dim=1), weight, denoiser.latent_in.bias, padding=1)
    torch.testing.assert_close(denoiser.latent_in(z) + denoiser.condition_in(condition), whole, atol=1e-5, rtol=1e-5)


def test_one_condition_gives_the_result_of_its_copies(denoiser):
    z, condition = torch.randn(6, 4, 8, 8), torch.randn(1, 8, 8, 8)
    torch.testing.assert_close(
        denoiser(z, condition, features(300.0)), denoiser(z, condition.expand(6, -1, -1, -1), features(*[300.0] * 6))
    )


def test_each_condition_belongs_to_consecutive_latents(denoiser):
    z, condition = torch.randn(6, 4, 8, 8), torch.randn(3, 8, 8, 8)
    out = denoiser(z, condition, features(300.0))
    for image in range(3):
        own = slice(2 * image, 2 * image + 2)
        torch.testing.assert_close(
            out[own], denoiser(z[own], condition[image : image + 1], features(300.0)), atol=1e-5, rtol=1e-5
        )


def test_samples_do_not_see_each_other(denoiser):
    z, condition = torch.randn(4, 4, 8, 8), torch.randn(1, 8, 8, 8)
    alone = torch.cat([denoiser(z[k : k + 1], condition, features(300.0)) for k in range(4)])
    torch.testing.assert_close(denoiser(z, condition, features(300.0)), alone, atol=1e-5, rtol=1e-5)


def test_an_untrained_denoiser_predicts_its_bias(micro):
    out = Denoiser(micro().denoiser, 4, 8)(torch.randn(2, 4, 8, 8), torch.randn(1, 8, 8, 8), features(300.0))
    assert out.std(dim=(0, 2, 3)).max() < 1e-6
