"""Measure variants on the same val images and seeds, and their paired differences from the reference."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.progress import track
from safetensors import safe_open
from torch import nn

from benchmarks.common.machine import Machine
from benchmarks.common.paired import paired
from benchmarks.common.script import today
from benchmarks.training.ablations.report import SHOWN, Report, Row
from benchmarks.training.ablations.train import TrainingRecord
from benchmarks.training.ablations.variants import Study, TrainedStage, Variant
from medseg_runtime.errors import CheckpointError
from medseg_runtime.inference.segmenter import Segmenter
from medseg_runtime.model.bundle import Sampling
from medseg_trainer.data.layouts import Cases, read_cases
from medseg_trainer.evaluation.evaluate import SampleSettings
from medseg_trainer.evaluation.statistics import CaseFigures, measure, summarise
from medseg_trainer.models.build import build_networks
from medseg_trainer.models.graphs import TorchBackend
from medseg_trainer.models.manifest import manifest_of
from medseg_trainer.training.run_folder import RunFolder


@dataclass(frozen=True, slots=True)
class Measured:
    """One variant at one number of sampling steps, image by image."""

    name: str
    stage: TrainedStage
    sampling: Sampling
    cases: list[CaseFigures]


def evaluate(
    study: Study, runs: dict[str, Path], data: Path, machine: Machine, *, images: int, samples: int, command: str
) -> Report:
    """Measure a study's variants on evenly spaced images of val.

    runs: name => run folder of each variant to measure, the reference included.

    Raises:
        CheckpointError: the reference or weights are missing, a run has another configuration than this version's variant, or the runs
            started from different weights.
        DataError: the data are missing, or images and masks do not pair.
    """
    _check_comparable(study, runs)
    config = study.variants[study.reference].config
    cases = read_cases(data, "val", len(config.classes), config.classes).evenly(images)
    measured = [one for name, run in runs.items() for one in _measured(name, study.variants[name], run, cases, samples)]
    references = [one for one in measured if one.name == study.reference]
    raters = summarise(references[0].cases)
    return Report(
        date=today(),
        command=command,
        machine=machine,
        key=study.key,
        about=study.about,
        reference=study.reference,
        model=config.name,
        images=len(cases),
        groups=cases.num_groups,
        samples=samples,
        seed=SampleSettings().seed,
        raters={name: raters[name] for name in ("rater_diversity", "empty_raters")},
        rows=tuple(
            _row(one, study.variants[one.name], runs[one.name], _reference_of(one, references)) for one in measured
        ),
    )


def _reference_of(one: Measured, references: list[Measured]) -> Measured:
    """Return the reference at the same number of steps, or at its first number if it was not measured there."""
    return next((other for other in references if other.sampling.steps == one.sampling.steps), references[0])


def _check_comparable(study: Study, runs: dict[str, Path]) -> None:
    reference = study.reference
    if reference not in runs:
        raise CheckpointError(
            f"there is nothing to compare with: {reference!r} is not trained",
            f"Run `python -m benchmarks.training.ablations train {reference}` first.",
        )
    for name, run in runs.items():
        RunFolder(run).check_same(study.variants[name].config)
    starts = {name: TrainingRecord.read(run).start_sha256 for name, run in runs.items()}
    others = [name for name, start in starts.items() if start != starts[reference]]
    if others:
        raise CheckpointError(
            f"{', '.join(others)} started from other weights than {reference}", "Train all with the same --start."
        )


def _measured(name: str, variant: Variant, run: Path, cases: Cases, samples: int) -> Iterator[Measured]:
    """Measure one variant with each of its samplings."""
    networks = build_networks(variant.config)
    folder = RunFolder(run)
    folder.load_weights("mask_autoencoder", networks.mask_autoencoder)
    both = nn.ModuleDict({"condition": networks.condition, "denoiser": networks.denoiser})
    for stage, sampling in variant.measured:
        folder.load_weights(stage, both)
        segmenter = Segmenter(manifest_of(variant.config, sampling), TorchBackend(networks))
        progress = track(cases, f"{name}, S = {sampling.steps}", disable=not sys.stderr.isatty(), total=len(cases))
        results = SampleSettings(samples=samples).segment_all(segmenter, progress)
        yield Measured(
            name, stage, sampling, [figures for case, result in results for figures in measure(case, result)]
        )


def _row(one: Measured, variant: Variant, run: Path, reference: Measured) -> Row:
    summary = summarise(one.cases)
    trained = variant.optimisation(one.stage)
    return Row(
        variant=one.name,
        what=variant.what,
        steps=one.sampling.steps,
        noise=one.sampling.noise,
        training=TrainingRecord.read(run),
        images=trained.batch_size if trained else 0,
        masks=variant.masks(one.stage),
        trained_steps=trained.steps if trained else 0,
        learning_rate=trained.learning_rate if trained else 0.0,
        kept_step=_kept_step(variant, one.stage, run),
        figures={name: summary[name] for name in SHOWN},
        difference={} if one is reference else paired(one.cases, reference.cases, SHOWN),
    )


def _kept_step(variant: Variant, stage: TrainedStage, run: Path) -> int:
    if variant.optimisation(stage) is None:
        return 0
    with safe_open(run / f"{stage}.safetensors", "pt") as opened:
        return int(opened.metadata()["step"])
