"""Our own presets within the baselines' processor time: `fast` as the shipped model was made but shorter, and the paper's recipe."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from benchmarks.baselines.budget import spending
from benchmarks.json_record import JsonRecord
from medseg_runtime.errors import CheckpointError
from medseg_runtime.inference.segmenter import Segmenter
from medseg_trainer.config.presets import fast, paper
from medseg_trainer.config.run import Optimisation, TrainConfig
from medseg_trainer.models.graphs import TorchBackend
from medseg_trainer.models.manifest import manifest_of
from medseg_trainer.training.loop import fit
from medseg_trainer.training.run_folder import RunFolder

TRIALS = (1 / 800, 1 / 200)
"""Shares of a preset's steps that are tried to learn what all of them would take."""
SMALLER = 4
"""By how much batches shrink: in so little time, more and smaller steps lead further."""
LEAST_BATCH = 8
VALIDATIONS = 3
"""Of the last stage, evenly spaced, and of the denoiser before it as often; on few images: the paper's recipe takes fifty sampling steps."""
VALIDATION_IMAGES = 32
SHARE_NAME = "share.json"
FAST = "fast"
"""The one that the baselines are compared with."""

Settings = TypeVar("Settings")


@dataclass(frozen=True, kw_only=True, slots=True)
class Own:
    """A preset of ours that is trained within a budget."""

    key: str
    title: str
    preset: Callable[[], TrainConfig]


OWN = {
    own.key: own
    for own in (
        Own(key=FAST, title="ours, in the same time", preset=fast),
        Own(key="paper", title="(d) the paper's recipe", preset=paper),
    )
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Share(JsonRecord):
    """How much of a preset is trained; written into the run folder when that starts."""

    preset: str
    cpu_minutes: float
    """That it was measured out for; validation comes on top."""
    share: float
    """Of the images that the preset would show to each stage."""


def train_own(own: Own, data: Path, out: Path, cpu_minutes: float) -> None:
    """Train a preset's stages, each by the same share, from the start or from where the folder's run was interrupted.

    Raises:
        DataError: the data are missing, or do not pair.
        CheckpointError: the folder belongs to another run.
        OutputError: the folder cannot be written.
    """
    made = Share.read(out / SHARE_NAME) if (out / SHARE_NAME).exists() else None
    if made is not None and (made.preset, made.cpu_minutes) != (own.key, cpu_minutes):
        raise CheckpointError(
            f"{out.name!r} was started as {made.preset} with {made.cpu_minutes:g} CPU minutes",
            "Use another --runs, or the preset and --cpu-minutes it was started with.",
        )
    if made is None:
        made = Share(preset=own.key, cpu_minutes=cpu_minutes, share=affordable_share(own.preset(), data, cpu_minutes))
        out.mkdir(parents=True, exist_ok=True)
        made.write(out / SHARE_NAME)
    with spending(out):
        fit(shortened(own.preset(), made.share), data, out, command=command(own, cpu_minutes))


def command(own: Own, cpu_minutes: float) -> str:
    """Return what a person types to train it."""
    return f"python -m benchmarks.baselines train {own.key} --data DATA --cpu-minutes {cpu_minutes:g}"


def affordable_share(config: TrainConfig, data: Path, cpu_minutes: float) -> float:
    """Return what share of a preset fits into a budget, from two short trials: what both need to begin with cancels out."""
    seconds = []
    for share in TRIALS:
        with tempfile.TemporaryDirectory() as folder:
            trial = replace(shortened(config, share), validation_images=1, validation_samples=1, validate_every=10**9)
            start = time.process_time()
            fit(trial, data, Path(folder) / "run")
            seconds.append(time.process_time() - start)
    return 60.0 * cpu_minutes * (TRIALS[1] - TRIALS[0]) / max(seconds[1] - seconds[0], 1e-9)


def shortened(config: TrainConfig, share: float) -> TrainConfig:
    """Return a preset whose every stage sees that share of its images, in smaller batches."""
    short = _shorter(config, share)
    last = short.energy.optimisation if short.energy is not None else short.denoiser.optimisation
    return replace(short, validate_every=max(1, -(-last.steps // VALIDATIONS)), validation_images=VALIDATION_IMAGES)


def _shorter(settings: Settings, share: float) -> Settings:
    """Shorten every optimisation in a configuration, however deep it lies."""
    if isinstance(settings, Optimisation):
        size = max(LEAST_BATCH, settings.batch_size // SMALLER)
        steps = max(2, round(share * settings.steps * settings.batch_size / size))
        return replace(settings, steps=steps, batch_size=size, warmup_steps=min(settings.warmup_steps, steps // 10))
    if not dataclasses.is_dataclass(settings) or isinstance(settings, type):
        return settings
    changed = {field.name: _shorter(getattr(settings, field.name), share) for field in dataclasses.fields(settings)}
    return replace(settings, **changed)


def trained_own(out: Path) -> tuple[Segmenter, TrainConfig]:
    """Load a finished run as it draws by default.

    Raises:
        CheckpointError: there is none.
    """
    run = RunFolder(out)
    config = run.config()
    run.check_finished()
    return Segmenter(manifest_of(config), TorchBackend(run.networks())), config
