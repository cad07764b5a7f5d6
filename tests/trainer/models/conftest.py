"""Fixtures for the tests of the networks."""

import pytest
import torch

from medseg_trainer.models.denoiser import Denoiser
from tests.trainer.models.networks import randomised


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture
def denoiser(micro):
    return randomised(Denoiser(micro().denoiser, 4, 8))
