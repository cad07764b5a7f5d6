"""The conditions: their shapes, and that the paper's is the latent of the image autoencoder."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from medseg_trainer.models.autoencoder import ImageAutoencoder
from medseg_trainer.models.condition import AutoencoderCondition, UNetCondition
from tests.trainer.models.networks import config, randomised


@pytest.mark.parametrize("regulariser", ["vq", "kl", "sphere"])
def test_the_paper_s_condition_is_the_latent_of_the_image_autoencoder(regulariser):
    autoencoder = randomised(ImageAutoencoder(config(regulariser=regulariser, reconstruction="mse"), 3))
    image = torch.rand(2, 3, 16, 16)
    condition = AutoencoderCondition(autoencoder)(image)
    assert condition.shape == (2, 4, 4, 4)
    loss, parts = autoencoder(image, torch.zeros_like(condition))  # without noise `kl` decodes its mean
    expected = F.mse_loss(autoencoder.decoder(condition), 2 * image - 1)
    assert parts["reconstruction"].item() == pytest.approx(expected.item(), rel=1e-6)
    assert loss >= expected


@pytest.mark.parametrize("factor", [4, 8])
def test_the_condition_has_the_latent_s_grid(factor, micro):
    settings = replace(micro().condition, widths=(8, 16, 32), channels=7)
    condition = UNetCondition(settings, 3, factor)
    assert condition(torch.rand(2, 3, 32, 64)).shape == (2, 7, 32 // factor, 64 // factor)
