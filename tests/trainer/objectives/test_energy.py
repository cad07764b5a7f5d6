"""Tuning by the energy score: the score is proper, and noise and sampling are those of the runtime."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import kstest, norm

from medseg_runtime.errors import CheckpointError, ParameterError
from medseg_runtime.model.noise import NoiseLaw, SampleNoise
from medseg_runtime.model.sampler import sampler_table, time_features
from medseg_runtime.result.metrics import generalized_energy_distance, hungarian_matched_iou
from medseg_trainer.config.run import EnergyConfig, Optimisation, TrainConfig
from medseg_trainer.models.build import build_networks
from medseg_trainer.models.graphs import TorchBackend
from medseg_trainer.models.manifest import manifest_of
from medseg_trainer.objectives.energy import (
    FEW_PX,
    EnergyStage,
    confidence_error,
    energy_score,
    matching_distance,
    ruzicka_distance,
    starting_noise,
)
from medseg_trainer.training.ema import Ema
from medseg_trainer.training.loop import fit
from medseg_trainer.training.run_folder import RunFolder

LAW = NoiseLaw(stratified=0.5)


def masks(*shape, share=0.4, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < share


@pytest.fixture(scope="session")
def tuned_config(micro):
    steps = Optimisation(steps=5, batch_size=4, learning_rate=1e-3, warmup_steps=2, ema_decay=0.9)
    return micro(energy=EnergyConfig(optimisation=steps, samples=4, noise=LAW))


@pytest.fixture(scope="session")
def tuned(tuned_config, phantom_zips, tmp_path_factory):
    """The folder of a finished run with all stages; read only."""
    out = tmp_path_factory.mktemp("tuned") / "run"
    fit(tuned_config, phantom_zips, out)
    return out


# --- the score


def test_the_distance_is_one_minus_iou_except_for_one_pixel():
    a, b = masks(900, seed=1).float(), masks(900, seed=2).float()
    union, intersection = (a + b > 0).sum(), (a * b).sum()
    assert ruzicka_distance(a, b).item() == pytest.approx(1 - (intersection + 1) / (union + 1))
    assert ruzicka_distance(a, a).item() == 0.0
    assert ruzicka_distance(torch.zeros(9), torch.zeros(9)).item() == 0.0


def test_the_score_of_sixteen_large_masks_is_the_generalised_energy_distance_without_the_raters_term():
    drawn, raters = masks(1, 16, 1, 4000, seed=1), masks(1, 4, 1, 4000, seed=2)
    ged = generalized_energy_distance(drawn[0].numpy(), raters[0].numpy())
    among = np.mean([1 - (a & b).sum() / (a | b).sum() for a in raters[0].numpy() for b in raters[0].numpy()])
    assert energy_score(drawn.float(), raters.float()).item() == pytest.approx(ged + among, abs=1e-3)


def test_the_score_of_some_of_sixteen_masks_is_on_average_that_of_all():
    drawn, raters = masks(1, 16, 1, 500, seed=1).float(), masks(1, 4, 1, 500, seed=2).float()
    some = [energy_score(drawn[:, [i, j]], raters) for i in range(16) for j in range(i)]
    assert torch.stack(some).mean().item() == pytest.approx(energy_score(drawn, raters).item(), abs=1e-5)


@pytest.mark.parametrize("samples", [3, 8, 16])
def test_the_matching_of_large_masks_is_hm_iou(samples):
    drawn, raters = masks(2, samples, 1, 4000, seed=1), masks(2, 4, 1, 4000, seed=2)
    matched = [hungarian_matched_iou(drawn[k].numpy(), raters[k].numpy()) for k in range(2)]
    assert matching_distance(drawn.float(), raters.float()).item() == pytest.approx(1 - np.mean(matched), abs=1e-3)


def test_the_right_distribution_scores_best():
    # half of the raters mark a disc, half nothing; always the same mask, or a gray mean, must score worse
    disc, empty = torch.ones(1, 50), torch.zeros(1, 50)
    raters = torch.stack([disc, empty, disc, empty])[None]
    score = {
        "as the raters": energy_score(torch.stack([disc, empty] * 50)[None], raters),
        "always": energy_score(torch.stack([disc] * 4)[None], raters),
        "never": energy_score(torch.stack([empty] * 4)[None], raters),
        "grey": energy_score(torch.full((1, 4, 1, 50), 0.5), raters),
        "too rarely": energy_score(torch.stack([disc, *[empty] * 3] * 25)[None], raters),
    }
    assert min(score, key=score.get) == "as the raters"


def test_the_error_of_the_confidence_is_that_of_infinitely_many_samples():
    # independent samples of a known probability, which is the confidence of infinitely many samples
    probability, raters = torch.rand(50, generator=torch.Generator().manual_seed(0)), masks(1, 4, 1, 50, seed=1).float()
    drawn = (torch.rand(4000, 4, 1, 50, generator=torch.Generator().manual_seed(2)) < probability).float()
    found = torch.stack([confidence_error(one[None], raters) * (one.mean(dim=0).sum() + FEW_PX) for one in drawn])
    expected = (probability - raters.mean(dim=1)).square().sum()
    assert found.mean().item() == pytest.approx(expected.item(), rel=0.02)


def test_the_error_is_least_at_the_probability_of_a_mask_whatever_its_size():
    # half of the images have a large mask, half none; weights by the raters' pixels would favor the empty ones
    marked = torch.stack([torch.ones(4, 1, 400), torch.zeros(4, 1, 400)])
    level = torch.tensor(0.5, requires_grad=True)
    confidence_error(level.expand(2, 4, 1, 400), marked).backward()
    assert level.grad.item() == pytest.approx(0.0, abs=1e-6)


# --- the noise


def test_sixteen_samples_have_one_point_in_each_sixteenth_as_in_the_runtime():
    draws = torch.rand(3, 16)
    noise = starting_noise(NoiseLaw(stratified=0.999999), torch.randn(3, 16, 4, 32, 32), torch.rand(3, 4), draws)
    strata = np.sort((norm.cdf(noise.mean(dim=(3, 4)).numpy()) * 16).astype(int), axis=1)
    assert np.mean(strata == np.arange(16)[None, :, None]) > 0.97  # the rest of the variance may cross a border


def test_noise_has_the_variances_of_the_runtime():
    ours = starting_noise(LAW, torch.randn(400, 2, 4, 8, 8), torch.rand(400, 4), torch.rand(400, 16)).numpy()
    theirs = np.stack([SampleNoise(seed, 1, LAW).start((4, 8, 8)) for seed in range(800)])
    for found in (ours, theirs):
        assert found.var() == pytest.approx(1.0, abs=0.06)
        assert found.mean(axis=(-2, -1)).var() == pytest.approx(0.5 + 0.5 / 64, abs=0.06)


def test_each_image_shifts_the_points_so_that_all_values_occur():
    law = NoiseLaw(stratified=0.999999)
    noise = starting_noise(law, torch.randn(500, 4, 4, 2, 2), torch.rand(500, 4), torch.rand(500, 16))
    common = noise.mean(dim=(3, 4)).flatten().numpy()
    assert kstest(common, "norm").pvalue > 1e-3  # without shifts there are only sixteen values


def test_independent_noise_stays_as_it_is():
    normal = torch.randn(2, 3, 4, 8, 8)
    assert starting_noise(NoiseLaw(), normal, torch.rand(2, 4), torch.rand(2, 16)) is normal


# --- the stage


@pytest.mark.parametrize("classes", [("nodule",), ("core", "rim")])
def test_the_loss_moves_condition_and_denoiser_through_the_frozen_decoder(tuned_config, classes):
    config = replace(tuned_config, classes=classes)
    networks = build_networks(config)
    torch.nn.init.normal_(networks.denoiser.exit.weight, std=0.1)
    stage = EnergyStage(config, replace(config.energy, matching_weight=0.3, confidence_weight=0.7), networks)
    labels = (masks(2, 4, 32, 32) * len(classes)).byte()
    loss, parts = stage(torch.rand(2, 1, 32, 32), labels, torch.randn(2, 4, *config.latent))
    weights = {"energy": 1.0, "matching": 0.3, "confidence": 0.7}
    assert loss.item() == pytest.approx(sum(weights[name] * part.item() for name, part in parts.items()), rel=1e-5)
    (parts["energy"] + parts["matching"] + parts["confidence"]).backward()
    assert all(p.grad is None for p in networks.mask_autoencoder.parameters())
    assert networks.condition.stem.weight.grad.abs().sum() > 0
    assert networks.denoiser.latent_in.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_tuning_samples_what_the_runtime_samples(tuned_config, steps):
    config = replace(tuned_config, energy=replace(tuned_config.energy, steps=steps))
    networks = build_networks(config)
    torch.nn.init.normal_(networks.denoiser.exit.weight, std=0.3)
    stage, backend = EnergyStage(config, config.energy, networks).eval(), TorchBackend(networks)
    image, noise = torch.rand(1, 1, 32, 32), torch.randn(1, 4, *config.latent)
    table = sampler_table(config.path, config.tuned_sampling.sampler, config.tuned_sampling.steps)
    features = time_features(table.t, config.denoiser.time_features)
    latent = backend.denoise(backend.encode(image.numpy()), noise[0].numpy(), table, features, lambda: None)
    with torch.no_grad():
        drawn = stage._draw(stage.condition(image), noise)
    expected = 1.0 / (1.0 + np.exp(-backend.decode(latent)))
    np.testing.assert_allclose(drawn[0, :, 0].numpy(), expected.reshape(4, -1), atol=1e-5)


def test_tuning_lowers_the_score(tuned_config, phantom_zips, tmp_path):
    longer = Optimisation(steps=60, batch_size=8, learning_rate=3e-3, warmup_steps=5)
    config = replace(tuned_config, energy=replace(tuned_config.energy, optimisation=longer), validate_every=60)
    fit(config, phantom_zips, tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    curve = [line["energy"] for line in lines if line["stage"] == "energy" and "energy" in line]
    assert curve[-1] < curve[0]


# --- the run


def test_the_result_is_the_tuned_weights_with_their_sampling(tuned):
    run = RunFolder(tuned)
    assert (tuned / "energy.safetensors").exists()
    assert (tuned / "samples" / "energy-000005.png").exists()
    first, last = run.networks("denoiser"), run.networks()
    assert not torch.equal(first.denoiser.exit.weight, last.denoiser.exit.weight)
    assert torch.equal(first.mask_autoencoder.decoder.entry.weight, last.mask_autoencoder.decoder.entry.weight)
    sampling = manifest_of(run.config()).sampling
    assert (sampling.steps, sampling.noise, sampling.tuned) == (1, LAW, True)
    assert run.kept_step() <= 5


def test_a_configuration_with_tuning_reads_back(tuned_config):
    assert TrainConfig.from_json(tuned_config.to_json()) == tuned_config


def test_a_resumed_tuning_gives_the_result_of_an_uninterrupted_one(
    tuned, tuned_config, phantom_zips, tmp_path, monkeypatch
):
    run, original, count = tmp_path / "run", Ema.update, 0

    def interrupted(*arguments):
        nonlocal count
        count += 1
        if count == 9:  # three steps of each stage before, then the third of this one
            raise KeyboardInterrupt
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Ema, "update", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fit(tuned_config, phantom_zips, run)
    with pytest.raises(CheckpointError, match="the energy is at step 2 of 5"):
        RunFolder(run).check_finished()
    fit(tuned_config, phantom_zips, run)
    ours, theirs = (RunFolder(folder).networks().denoiser.state_dict() for folder in (run, tuned))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize(
    "fields", [{"samples": 1}, {"samples": 17}, {"steps": 0}, {"steps": 5}, {"noise": NoiseLaw(antithetic=True)}]
)
def test_tuning_out_of_range_is_refused(tuned_config, fields):
    with pytest.raises(ParameterError, match="Use"):
        replace(tuned_config.energy, **fields)


def test_a_sampler_with_an_extra_term_is_refused(tuned_config):
    sampling = replace(tuned_config.sampling, sampler="dpmpp")
    with pytest.raises(ParameterError, match="Use euler"):
        replace(tuned_config, sampling=sampling, energy=replace(tuned_config.energy, steps=4))
