"""Train a baseline with the trainer's data, augmentation, loop and run folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor

from benchmarks.training.baselines.baseline import Baseline, segmenter_of
from benchmarks.training.baselines.budget import PLAN_NAME, Plan, affordable_steps, recorded_cpu_seconds
from benchmarks.training.baselines.contenders import Contender
from medseg_runtime.errors import CheckpointError
from medseg_trainer.config.run import Optimisation, TrainConfig
from medseg_trainer.data.layouts import Case, read_cases
from medseg_trainer.data.working_set import BatchSource, WorkingSet
from medseg_trainer.evaluation.evaluate import SampleSettings
from medseg_trainer.evaluation.statistics import measure, summarise
from medseg_trainer.training.loop import run_stage, start_fabric
from medseg_trainer.training.run_folder import RunFolder
from medseg_trainer.training.stages import Stage

VALIDATIONS = 12
"""Validations per run, evenly spaced. The weights with the best GED are kept."""
SOURCE = 3
"""Index of the batch order: the one of the trainer's denoiser."""
SHOWN = ("ged", "hm_iou", "sample_diversity", "consensus_dice", "empty_samples", "brier", "ece")


@dataclass(frozen=True, slots=True)
class Validator:
    """Measure weights on a few val images, as `medseg_trainer.training.validation` does for our model."""

    contender: Contender
    config: TrainConfig
    cases: list[Case]

    @classmethod
    def read(cls, contender: Contender, config: TrainConfig, data: Path) -> Validator:
        """Read `validation_images` evenly spaced images of val."""
        cases = read_cases(data, "val", len(config.classes), config.classes)
        return cls(contender, config, list(cases.evenly(config.validation_images)))

    def __call__(self, tensors: dict[str, Tensor], _step: int) -> dict[str, float]:
        """Return the mean figures of these weights."""
        baseline = self.contender.build(self.config)
        baseline.load_state_dict(tensors)
        results = SampleSettings(samples=self.contender.samples).segment_all(
            segmenter_of(baseline, self.config), self.cases
        )
        summary = summarise([figures for case, result in results for figures in measure(case, result)])
        return {name: summary[name].mean for name in SHOWN}


def train(contender: Contender, config: TrainConfig, data: Path, out: Path, cpu_minutes: float) -> None:
    """Train a baseline; resume if the run folder holds an unfinished run.

    config: gives images, field, augmentation, validation and seed; its networks are not used.

    Raises:
        DataError: the data are missing, or images and masks do not pair.
        CheckpointError: the folder belongs to another run.
        OutputError: the folder cannot be written.
    """
    fabric, console, run = start_fabric(config), Console(stderr=True), RunFolder(out)
    run.check_same(config)
    _check_same(contender, cpu_minutes, out)
    train_set = WorkingSet.read(
        data, "train", config.input, config.raters, len(config.classes), classes=config.classes, quiet=False
    )
    validator = Validator.read(contender, config, data)
    run.start(config)
    source = BatchSource(train_set, config.input, config.augment, contender.batch_size, config.seed * 1000 + SOURCE)
    with recorded_cpu_seconds(out):
        plan = _plan_of(out)
        if plan is None:
            steps = affordable_steps(fabric, _stage(contender, config, 1, None), source, cpu_minutes)
            plan = _plan(contender, config, cpu_minutes, steps)
            plan.write(out / PLAN_NAME)
        console.print(f"{contender.title}: {plan.steps:,} steps of {plan.batch_size} images", highlight=False)
        run_stage(fabric, run, _stage(contender, config, plan.steps, validator), source, console)


def trained(contender: Contender, out: Path) -> tuple[Baseline, TrainConfig]:
    """Load the best weights of a run and its configuration.

    Raises:
        CheckpointError: the folder holds no run, or the run is not finished.
    """
    run = RunFolder(out)
    config = run.config()
    baseline = contender.build(config)
    plan = _plan_of(out)
    if plan is not None:
        run.check_stage_finished(
            contender.key,
            plan.steps,
            f"Run `python -m benchmarks.training.baselines train {contender.key}` to its end.",
        )
    run.load_weights(contender.key, baseline)
    return baseline, config


def _check_same(contender: Contender, cpu_minutes: float, out: Path) -> None:
    """Refuse to resume with another budget: the learning rate has decayed by the first one."""
    plan = _plan_of(out)
    if plan is not None and (plan.contender, plan.cpu_minutes) != (contender.key, cpu_minutes):
        raise CheckpointError(
            f"{out.name!r} was started as {plan.contender} with {plan.cpu_minutes:g} CPU minutes",
            "Use another --out, or the contender and --cpu-minutes it was started with.",
        )


def _plan_of(out: Path) -> Plan | None:
    """Read the plan of a run folder; None if there is none."""
    return Plan.read(out / PLAN_NAME) if (out / PLAN_NAME).exists() else None


def _plan(contender: Contender, config: TrainConfig, cpu_minutes: float, steps: int) -> Plan:
    return Plan(
        contender=contender.key,
        cpu_minutes=cpu_minutes,
        steps=steps,
        batch_size=contender.batch_size,
        learning_rate=contender.learning_rate,
        seed=config.seed,
    )


def _stage(
    contender: Contender,
    config: TrainConfig,
    steps: int,
    validate: Callable[[dict[str, Tensor], int], dict[str, float]] | None,
) -> Stage:
    """Build the network from the seed, and the stage that trains it."""
    torch.manual_seed(config.seed)
    return Stage(
        name=contender.key,
        module=contender.build(config),
        optimisation=Optimisation(steps=steps, batch_size=contender.batch_size, learning_rate=contender.learning_rate),
        losses=contender.losses,
        validate=validate,
        validate_every=max(1, steps // VALIDATIONS),
    )
