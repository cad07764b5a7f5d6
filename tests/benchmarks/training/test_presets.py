"""Our presets within the baselines' budget: every stage is shortened by the same factor, and a run keeps its budget."""

import numpy as np
import pytest

from benchmarks.training.baselines import presets
from benchmarks.training.baselines.budget import cpu_seconds
from benchmarks.training.baselines.presets import OWN_PRESETS, affordable_share, shortened, train_preset, trained_preset
from medseg_runtime.errors import CheckpointError


def optimisations(config):
    stages = [config.mask_autoencoder, config.denoiser, config.energy, config.condition.autoencoder]
    return [stage.optimisation for stage in stages if stage is not None]


@pytest.mark.parametrize("key", OWN_PRESETS)
def test_a_shortened_preset_shows_every_stage_the_same_share_of_its_images(key):
    whole = OWN_PRESETS[key].config()
    short = shortened(whole, 0.05)
    assert len(optimisations(short)) == 3
    for before, after in zip(optimisations(whole), optimisations(short), strict=True):
        seen = [one.steps * one.batch_size for one in (before, after)]
        assert seen[1] == pytest.approx(0.05 * seen[0], rel=0.02)
        assert after.batch_size < before.batch_size
        assert after.warmup_steps <= after.steps // 10
        assert after.learning_rate == before.learning_rate
    last = optimisations(short)[1 if short.energy is None else 2]
    assert last.steps / short.validate_every == pytest.approx(3, abs=0.1)
    assert (short.denoiser.widths, short.augment) == (whole.denoiser.widths, whole.augment)


def test_the_share_of_a_budget_follows_from_two_trials(monkeypatch):
    fitted, spent_so_far = [], [0.0]

    def fit(config, _data, _out):
        fitted.append(config)
        spent_so_far[0] += 1e5 + sum(one.steps * one.batch_size for one in optimisations(config))

    monkeypatch.setattr(presets, "fit", fit)
    monkeypatch.setattr(presets.time, "process_time", lambda: spent_so_far[0])
    config = OWN_PRESETS["fast"].config()
    images = sum(one.steps * one.batch_size for one in optimisations(config))
    assert affordable_share(config, None, cpu_minutes=10.0) == pytest.approx(600.0 / images, rel=0.02)
    assert [config.validation_images for config in fitted] == [1, 1]


def test_a_preset_is_trained_once_and_not_resumed_with_another_budget(micro, phantom_zips, tmp_path, monkeypatch):
    preset = presets.OwnPreset(key="fast", title="a micro run", config=lambda: micro(steps=8))
    monkeypatch.setattr(presets, "affordable_share", lambda *_: 0.5)
    train_preset(preset, phantom_zips, tmp_path / "run", 1.0)
    segmenter, config = trained_preset(tmp_path / "run")
    assert (config.denoiser.optimisation.steps, config.denoiser.optimisation.batch_size) == (2, 8)
    assert segmenter(np.zeros((64, 64), np.uint8), samples=2).masks.shape == (2, 64, 64)
    weights, first = (tmp_path / "run" / "denoiser.safetensors").read_bytes(), cpu_seconds(tmp_path / "run")
    train_preset(preset, phantom_zips, tmp_path / "run", 1.0)
    assert (tmp_path / "run" / "denoiser.safetensors").read_bytes() == weights
    assert cpu_seconds(tmp_path / "run") > first
    with pytest.raises(CheckpointError, match="1 CPU minutes"):
        train_preset(preset, phantom_zips, tmp_path / "run", 2.0)
