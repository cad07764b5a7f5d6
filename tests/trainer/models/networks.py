"""Configurations and weights for the tests of the networks."""

import numpy as np
import torch

from medseg_runtime.model.sampler import time_features
from medseg_trainer.config.run import AutoencoderConfig, Optimisation

OPTIMISATION = Optimisation(steps=1, batch_size=1, learning_rate=1e-3)


def config(**changes):
    fields = {
        "optimisation": OPTIMISATION,
        "width": 16,
        "blocks": 1,
        "regulariser": "sphere",
        "reconstruction": "cross_entropy",
        "codebook_size": 32,
    }
    return AutoencoderConfig(**fields | changes)


def randomised(module):
    """Give every weight a random value, also those that are initialised with zero."""
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return module.eval()


def features(*times):
    return torch.from_numpy(time_features(np.array(times), 16))
