"""Train our presets `fast` and `paper` within the baselines' budget of processor time, every stage shortened by the same factor."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from benchmarks.common.json_record import JsonRecord
from benchmarks.training.baselines.budget import recorded_cpu_seconds
from medseg_runtime.errors import CheckpointError
from medseg_runtime.inference.segmenter import Segmenter
from medseg_trainer.config.presets import fast, paper
from medseg_trainer.config.run import Optimisation, TrainConfig
from medseg_trainer.models.graphs import TorchBackend
from medseg_trainer.models.manifest import manifest_of
from medseg_trainer.training.loop import fit
from medseg_trainer.training.run_folder import RunFolder

TRIALS = (1 / 800, 1 / 200)
"""Shares of a preset's length that are trained as trials, to estimate the time of all of it."""
SMALLER = 4
"""Factor by which batches shrink: in a short training, more and smaller steps help."""
LEAST_BATCH = 8
VALIDATIONS = 3
"""Validations of the last stage, evenly spaced. The denoiser before it is validated at the same interval."""
VALIDATION_IMAGES = 32
"""Few, because the paper's recipe takes fifty sampling steps."""
SHARE_NAME = "share.json"
FAST = "fast"
"""The preset that the baselines are compared with."""

Settings = TypeVar("Settings")


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnPreset:
    """One of our presets."""

    key: str
    title: str
    config: Callable[[], TrainConfig]


OWN_PRESETS = {
    preset.key: preset
    for preset in (
        OwnPreset(key=FAST, title="ours, in the same time", config=fast),
        OwnPreset(key="paper", title="(d) the paper's recipe", config=paper),
    )
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Share(JsonRecord):
    """How much of a preset is trained; written into the run folder before the first step."""

    preset: str
    cpu_minutes: float
    """Budget that `share` was computed for; validation is extra."""
    share: float
    """Share of the images that the preset shows to each stage, in [0, 1]."""


def train_preset(preset: OwnPreset, data: Path, out: Path, cpu_minutes: float) -> None:
    """Train the same share of every stage of a preset; resume if the run folder holds an unfinished run.

    Raises:
        DataError: the data are missing, or images and masks do not pair.
        CheckpointError: the folder belongs to another run.
        OutputError: the folder cannot be written.
    """
    made = Share.read(out / SHARE_NAME) if (out / SHARE_NAME).exists() else None
    if made is not None and (made.preset, made.cpu_minutes) != (preset.key, cpu_minutes):
        raise CheckpointError(
            f"{out.name!r} was started as {made.preset} with {made.cpu_minutes:g} CPU minutes",
            "Use another --runs, or the preset and --cpu-minutes it was started with.",
        )
    if made is None:
        share = affordable_share(preset.config(), data, cpu_minutes)
        made = Share(preset=preset.key, cpu_minutes=cpu_minutes, share=share)
        out.mkdir(parents=True, exist_ok=True)
        made.write(out / SHARE_NAME)
    with recorded_cpu_seconds(out):
        fit(shortened(preset.config(), made.share), data, out, command=command(preset, cpu_minutes))


def command(preset: OwnPreset, cpu_minutes: float) -> str:
    """Return the command line that trains a preset."""
    return f"python -m benchmarks.training.baselines train {preset.key} --data DATA --cpu-minutes {cpu_minutes:g}"


def affordable_share(config: TrainConfig, data: Path, cpu_minutes: float) -> float:
    """Return the share of a preset that fits into a budget.

    Estimated from the difference of two short trials, so that fixed costs cancel.
    """
    seconds = []
    for share in TRIALS:
        with tempfile.TemporaryDirectory() as folder:
            trial = replace(shortened(config, share), validation_images=1, validation_samples=1, validate_every=10**9)
            start = time.process_time()
            fit(trial, data, Path(folder) / "run")
            seconds.append(time.process_time() - start)
    return 60.0 * cpu_minutes * (TRIALS[1] - TRIALS[0]) / max(seconds[1] - seconds[0], 1e-9)


def shortened(config: TrainConfig, share: float) -> TrainConfig:
    """Return a preset whose every stage sees `share` of its images, in smaller batches."""
    short = _shorter(config, share)
    last = short.energy.optimisation if short.energy is not None else short.denoiser.optimisation
    return replace(short, validate_every=max(1, -(-last.steps // VALIDATIONS)), validation_images=VALIDATION_IMAGES)


def _shorter(settings: Settings, share: float) -> Settings:
    """Shorten every `Optimisation` in a configuration, recursively."""
    if isinstance(settings, Optimisation):
        size = max(LEAST_BATCH, settings.batch_size // SMALLER)
        steps = max(2, round(share * settings.steps * settings.batch_size / size))
        return replace(settings, steps=steps, batch_size=size, warmup_steps=min(settings.warmup_steps, steps // 10))
    if not dataclasses.is_dataclass(settings) or isinstance(settings, type):
        return settings
    changed = {field.name: _shorter(getattr(settings, field.name), share) for field in dataclasses.fields(settings)}
    return replace(settings, **changed)


def trained_preset(out: Path) -> tuple[Segmenter, TrainConfig]:
    """Load a finished run with its default sampling.

    Raises:
        CheckpointError: the folder holds no finished run.
    """
    run = RunFolder(out)
    config = run.config()
    run.check_finished()
    return Segmenter(manifest_of(config), TorchBackend(run.networks())), config
