"""Random numbers, raters and latents of a stage."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from medseg_trainer.data.working_set import Batch
from medseg_trainer.models.autoencoder import MaskAutoencoder
from medseg_trainer.training.stages import Draws, random_raters, set_latent_scale


def draws(batch_size=4, rank=0, world_size=1):
    generator = torch.Generator().manual_seed(0)
    return Draws(generator, batch_size, rank, world_size)


def test_processes_share_the_random_numbers_of_a_batch():
    whole, first, second = draws(), draws(rank=0, world_size=2), draws(rank=1, world_size=2)
    for kind in ("normal", "uniform"):
        numbers = [getattr(d, kind)(3, 2) for d in (whole, first, second)]
        torch.testing.assert_close(numbers[0][0::2], numbers[1], atol=0, rtol=0)
        torch.testing.assert_close(numbers[0][1::2], numbers[2], atol=0, rtol=0)


def test_random_raters_are_distinct_and_equally_likely():
    labels = torch.arange(4, dtype=torch.uint8)[None, :, None, None].expand(4000, 4, 2, 2)
    picked = random_raters(labels, draws(4000), 2)[:, :, 0, 0]
    assert (picked[:, 0] != picked[:, 1]).all()
    np.testing.assert_allclose(np.bincount(picked[:, 0], minlength=4) / 4000, 0.25, atol=0.03)
    assert random_raters(labels, draws(4000), 4)[:, :, 1, 1].sort(dim=1).values.tolist() == [[0, 1, 2, 3]] * 4000


def test_cells_of_masks_have_unit_mean_square_after_scaling(micro):
    autoencoder = MaskAutoencoder(replace(micro().mask_autoencoder, regulariser="kl", latent_noise=0.0), 1)
    labels = torch.zeros(2, 2, 32, 32, dtype=torch.uint8)
    labels[0, :, 8:12, 4:8] = 1  # one cell, (2, 1), of two of the four masks
    set_latent_scale(autoencoder, Batch(torch.zeros(2, 1, 32, 32), labels))
    latent = autoencoder.encode(labels.flatten(0, 1)).detach()
    assert latent[:2, :, 2, 1].square().mean().item() == pytest.approx(1.0, rel=1e-5)
    set_latent_scale(autoencoder, Batch(torch.zeros(2, 1, 32, 32), labels))  # a second call changes nothing
    torch.testing.assert_close(autoencoder.encode(labels.flatten(0, 1)).detach(), latent)
