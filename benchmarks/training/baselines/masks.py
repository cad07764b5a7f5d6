"""Compare our mask autoencoder, trained by weighted cross-entropy, with one trained by the mean squared error.

Network, masks, augmentation, steps and seed are the same; only the loss differs. The question is how well small targets survive.
Every non-empty rater's mask is encoded and decoded by both.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track

from benchmarks.common.json_record import JsonRecord
from benchmarks.training.baselines.budget import cpu_seconds, recorded_cpu_seconds
from benchmarks.training.baselines.reconstruction import FIRST, SECOND, MaskRow, mask_rows, reconstruct
from medseg_runtime.errors import CheckpointError
from medseg_trainer.config.run import TrainConfig
from medseg_trainer.data.augment import Draw, augmented
from medseg_trainer.data.layouts import read_cases
from medseg_trainer.data.masks import Labels
from medseg_trainer.data.working_set import BatchSource, WorkingSet, working_size
from medseg_trainer.models.autoencoder import MaskAutoencoder
from medseg_trainer.training.loop import run_stage, start_fabric
from medseg_trainer.training.run_folder import RunFolder
from medseg_trainer.training.stages import mask_stage

STAGE = "mask_autoencoder"
SOURCE = 1
"""Index of the batch order: the one that the trainer's loop uses for this stage."""
EVERY = 3
"""Every third slice is measured: neighbouring slices are nearly equal."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskComparison(JsonRecord):
    """Both autoencoders on one split."""

    command: str
    split: str
    images: int
    steps: int
    batch_size: int
    seed: int
    mse_cpu_minutes: float
    rows: tuple[MaskRow, ...]


def compare(run: Path, data: Path, out: Path, command: str) -> MaskComparison:
    """Train the MSE counterpart of a run's mask autoencoder, unless it is trained, and measure both on val.

    run: of `medseg-train fit`, with one class and weighted cross-entropy. out: the counterpart's run folder.

    Raises:
        DataError: the data are missing, or images and masks do not pair.
        CheckpointError: `run` has no such mask autoencoder, or `out` belongs to another counterpart.
    """
    config = RunFolder(run).config()
    if config.mask_autoencoder.reconstruction != FIRST or len(config.classes) > 1:
        raise CheckpointError(
            f"the mask autoencoder of {run.name!r} was not trained on one class by weighted cross-entropy",
            "Give --run a run folder of `medseg-train fit fast`.",
        )
    other = replace(config, mask_autoencoder=replace(config.mask_autoencoder, reconstruction=SECOND))
    pair: dict[str, MaskAutoencoder] = {FIRST: _loaded(config, run)}
    _train(other, data, out)
    pair[SECOND] = _loaded(other, out)
    fields = list(_val_fields(config, data))
    optimisation = config.mask_autoencoder.optimisation
    return MaskComparison(
        command=command,
        split="val",
        images=len(fields),
        steps=optimisation.steps,
        batch_size=optimisation.batch_size,
        seed=config.seed,
        mse_cpu_minutes=round(cpu_seconds(out) / 60.0, 1),
        rows=tuple(mask_rows(list(reconstruct(pair, track(fields, "reconstructing"), config.seed)))),
    )


def _train(config: TrainConfig, data: Path, out: Path) -> None:
    """Train only the mask autoencoder of a configuration, as `medseg-train fit` does."""
    fabric, run = start_fabric(config), RunFolder(out)
    run.check_same(config)
    train = WorkingSet.read(
        data, "train", config.input, config.raters, len(config.classes), classes=config.classes, quiet=False
    )
    run.start(config)
    settings = config.mask_autoencoder
    source = BatchSource(
        train, config.input, config.augment, settings.optimisation.batch_size, config.seed * 1000 + SOURCE
    )
    torch.manual_seed(config.seed)
    module = MaskAutoencoder(settings, config.num_logits)
    with recorded_cpu_seconds(out):
        run_stage(fabric, run, mask_stage(config, module), source, Console(stderr=True))


def _loaded(config: TrainConfig, run: Path) -> MaskAutoencoder:
    autoencoder = MaskAutoencoder(config.mask_autoencoder, config.num_logits)
    RunFolder(run).load_weights(STAGE, autoencoder)
    return autoencoder.eval()


def _val_fields(config: TrainConfig, data: Path) -> Iterator[tuple[str, Labels]]:
    """Yield patient and raters' masks (R, H, W), cropped to the field, of every third val image."""
    cases = read_cases(data, "val", len(config.classes), config.classes)
    still = Draw(0, 0, (False, False, False), None, None)
    for number in track(range(0, len(cases), EVERY), "reading val"):
        case = cases[number]
        yield case.group, augmented(*working_size(case, config.input), config.input, still)[1]
