"""The presets."""

from medseg_runtime.model.sampler import ProbabilityPath, sampler_table
from medseg_trainer.config.presets import PRESETS, paper
from medseg_trainer.models.build import build_networks
from tests.trainer.presets import EVERY_PRESET


@EVERY_PRESET
def test_the_parts_of_a_preset_fit_together(preset):
    """The networks can be built, the sampler has a table, and a step takes no more raters than there are."""
    config = PRESETS[preset]()
    build_networks(config)
    sampler_table(config.path, config.sampling.sampler, config.sampling.steps)
    assert 1 <= config.denoiser.raters_per_image <= config.raters


def test_the_paper_s_choices():
    config = paper()
    assert config.mask_autoencoder.regulariser == "vq"
    assert config.mask_autoencoder.reconstruction == "cross_entropy"
    assert config.latent[0] == 4
    assert (config.condition.kind, config.condition.tuned) == ("autoencoder", False)
    assert config.path == ProbabilityPath(objective="epsilon")
    assert config.denoiser.raters_per_image == 1
    assert not config.sampling.noise.antithetic
