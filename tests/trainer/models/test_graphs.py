"""The graphs of a bundle: one step of a sampler, and at which resolutions they compute."""

import numpy as np
import pytest
import torch

from medseg_runtime.model.noise import NoiseLaw, SampleNoise
from medseg_runtime.model.sampler import ProbabilityPath, sampler_table, time_features
from medseg_trainer.models.build import build_networks
from medseg_trainer.models.graphs import DenoiserGraph, TorchBackend
from tests.trainer.models.networks import features


@pytest.mark.parametrize(
    ("objective", "sampler"), [("flow", "euler"), ("flow", "dpmpp"), ("epsilon", "ddpm"), ("epsilon", "ddim")]
)
def test_the_denoiser_graph_does_a_row_of_the_table(objective, sampler, denoiser):
    table = sampler_table(ProbabilityPath(objective=objective, shift=2.0), sampler, 5)
    z, extra, condition = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8), torch.randn(1, 8, 8, 8)
    for step, (p, q, a, b, c) in enumerate(table.rows):
        time = features(table.t[step])
        denoised = p * z + q * denoiser(z, condition, time)
        found = DenoiserGraph(denoiser)(z, extra, condition, time, torch.tensor([p, q, a, b, c], dtype=torch.float32))
        torch.testing.assert_close(found[1], denoised, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(found[0], a * z + b * denoised + c * extra, atol=1e-5, rtol=1e-5)


def test_no_convolution_runs_at_full_resolution(micro):
    """At 64x64 a convolution of 16 channels costs what one of 256 channels costs at 16x16."""
    config = micro()
    backend = TorchBackend(build_networks(config))
    widest = {}

    def remember(graph):
        def hook(_module, _inputs, output):
            widest[graph] = max(widest.get(graph, 0), output.shape[-1])

        return hook

    for name, graph in backend._graphs.items():
        for module in graph.modules():
            if isinstance(module, torch.nn.Conv2d):
                module.register_forward_hook(remember(name))
    shape = config.latent
    noise = SampleNoise(0, 0, NoiseLaw()).draw(shape)[None]
    (condition,) = backend.run("encoder", {"image": np.zeros((1, 1, 32, 32), np.float32)})
    row = np.array([0, 1, 0.5, 0.5, 0], np.float32)
    fed = {"latent": noise, "extra": noise, "condition": condition, "row": row}
    backend.run("denoiser", fed | {"time_features": time_features(np.array([500.0]), 16)})
    (logits,) = backend.run("decoder", {"latent": noise})
    assert logits.shape == (1, 1, 32, 32)
    assert widest == {"encoder": 16, "denoiser": 8, "decoder": 8}
