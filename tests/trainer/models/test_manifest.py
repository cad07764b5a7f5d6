"""The manifest of a run's networks."""

from dataclasses import replace

import torch

from medseg_runtime.model.bundle import Sampling
from medseg_runtime.model.noise import NoiseLaw
from medseg_trainer.config.run import EnergyConfig
from medseg_trainer.models.build import build_networks
from medseg_trainer.models.manifest import manifest_of


def test_the_manifest_states_the_shapes_that_the_graphs_have(micro):
    config = micro(classes=("core", "rim"))
    graphs = build_networks(config).graphs()
    for name, graph in manifest_of(config).graphs.items():
        feeds = {
            key: torch.zeros([3 if side == "N" else side for side in shape]) for key, shape in graph.inputs.items()
        }
        with torch.inference_mode():
            found = graphs[name](**feeds)
        outputs = found if isinstance(found, tuple) else (found,)
        assert [tuple(tensor.shape) for tensor in outputs] == [
            tuple(3 if side == "N" else side for side in shape) for shape in graph.outputs.values()
        ]


def test_the_manifest_samples_as_the_finished_run_does_unless_told_otherwise(micro):
    config = micro()
    tuned = replace(config, energy=EnergyConfig(optimisation=config.denoiser.optimisation, noise=NoiseLaw()))
    assert manifest_of(config).sampling == config.sampling
    assert (manifest_of(tuned).sampling.steps, manifest_of(tuned).sampling.tuned) == (1, True)
    other = Sampling(sampler="euler", steps=7, noise=NoiseLaw())
    assert manifest_of(tuned, other).sampling == other
