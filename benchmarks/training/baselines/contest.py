"""Measure a bundle and the trained baselines on the same images, through the same code."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from safetensors import safe_open

from benchmarks.common.machine import Machine
from benchmarks.common.networks import parameters, preset_of
from benchmarks.common.paired import existing, paired
from benchmarks.common.script import today
from benchmarks.training.baselines.baseline import segmenter_of
from benchmarks.training.baselines.budget import PLAN_NAME, Plan, cpu_seconds
from benchmarks.training.baselines.contenders import CONTENDERS, Contender, model_size
from benchmarks.training.baselines.figures import COMPARED, measure_all
from benchmarks.training.baselines.masks import MaskComparison
from benchmarks.training.baselines.presets import (
    FAST,
    OWN_PRESETS,
    SHARE_NAME,
    OwnPreset,
    Share,
    command,
    trained_preset,
)
from benchmarks.training.baselines.report import MAP, Report, Row, Training
from benchmarks.training.baselines.training import trained
from medseg_runtime.inference.segmenter import Segmenter
from medseg_runtime.model.bundle import Bundle
from medseg_trainer.config.run import AugmentConfig, TrainConfig
from medseg_trainer.data.layouts import Cases, read_cases
from medseg_trainer.evaluation.evaluate import SampleSettings
from medseg_trainer.evaluation.statistics import CaseFigures, pooled, summarise
from medseg_trainer.training.run_folder import RunFolder

SAMPLES = 16
SPLIT: Final = "val"
MASKS_NAME = "masks.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class ContestSettings:
    """What is compared."""

    bundle: Path | None
    """None: the shipped one."""
    data: Path
    runs: Path
    """Folder of the baselines' run folders."""
    images: int | None
    """Number of evenly spaced val images; None: all."""
    seed: int
    command: str


def run_contest(settings: ContestSettings, machine: Machine) -> Report:
    """Measure the bundle and every model with a run folder; the preset `fast` must have one.

    Raises:
        BundleError: the bundle cannot be read, or no preset has its networks.
        CheckpointError: a training is not finished, or the preset `fast` has no run folder.
        DataError: the data are missing, or images and masks do not pair.
    """
    start = time.monotonic()
    segmenter = Segmenter.load(settings.bundle, backend="onnxruntime")
    classes = segmenter.manifest.classes
    present = {key for key in (*CONTENDERS, *OWN_PRESETS) if (settings.runs / key).exists()} | {FAST}
    baselines = [(one, *trained(one, settings.runs / key)) for key, one in CONTENDERS.items() if key in present]
    own = {key: trained_preset(settings.runs / key) for key in OWN_PRESETS if key in present}
    cases = read_cases(settings.data, SPLIT, len(classes), classes).evenly(settings.images)
    sampling = SampleSettings(samples=SAMPLES, seed=settings.seed)
    shipped, _ = measure_all(segmenter, cases, sampling, "shipped")
    figures = {key: measure_all(ours, cases, sampling, key)[0] for key, (ours, _) in own.items()}
    rows = [_row("shipped", "ours, as shipped", SAMPLES, _shipped_training(settings), shipped, ())]
    for key, (_, config) in own.items():
        training = _own_training(OWN_PRESETS[key], settings.runs / key, config)
        reference = () if key == FAST else figures[FAST]
        rows.append(_row(key, OWN_PRESETS[key].title, SAMPLES, training, figures[key], reference))
    for contender, baseline, config in baselines:
        training = _training(contender, settings.runs / contender.key, parameters(baseline))
        rows += _measured(contender, segmenter_of(baseline, config), cases, training, settings.seed, figures[FAST])
    path = settings.runs / MASKS_NAME
    return Report(
        date=today(),
        command=settings.command,
        seconds=round(time.monotonic() - start, 1),
        machine=machine,
        model=segmenter.manifest.name,
        bundle_sha256=segmenter.bundle_sha256,
        split=SPLIT,
        images=len(cases),
        patients=cases.num_groups,
        seed=settings.seed,
        rows=tuple(rows),
        masks=MaskComparison.read(path) if path.exists() else None,
    )


def _measured(
    contender: Contender,
    segmenter: Segmenter,
    cases: Cases,
    training: Training,
    seed: int,
    ours: Sequence[CaseFigures],
) -> list[Row]:
    """Return the row of a baseline. A baseline with a single mask has a second row, of its probability map."""
    sampling = SampleSettings(samples=contender.samples, seed=seed)
    masks, maps = measure_all(segmenter, cases, sampling, contender.key)
    rows = [_row(contender.key, contender.title, contender.samples, training, masks, ours)]
    if contender.samples == 1:
        rows.append(_row(contender.key + MAP, f"{contender.title}, its map", 1, training, maps, ours))
    return rows


def _row(
    key: str,
    title: str,
    samples: int,
    training: Training,
    figures: list[CaseFigures],
    ours: Sequence[CaseFigures],
) -> Row:
    return Row(
        key=key,
        title=title,
        samples=samples,
        training=training,
        figures=existing(summarise(figures)),
        reliability=pooled(figures).reliability,
        ours_less=paired(ours, figures, COMPARED) if ours else {},
    )


def _shipped_training(settings: ContestSettings) -> Training:
    """Read how a bundle was trained from its manifest."""
    bundle = Bundle.load(settings.bundle)
    recorded = bundle.manifest.training
    return Training(
        command=recorded["data"]["command"],
        parameters=model_size(preset_of(bundle)),
        steps=", ".join(f"{stage} {steps:,}" for stage, steps in recorded["steps"].items()),
        augmentation="not recorded in a bundle",
        cpu_minutes=None,
        kept=recorded["kept"],
        seed=recorded["seed"],
    )


def _own_training(preset: OwnPreset, run: Path, config: TrainConfig) -> Training:
    """Read how one of our presets was trained from its run folder."""
    share = Share.read(run / SHARE_NAME)
    stages = {"mask autoencoder": config.mask_autoencoder.optimisation}
    if config.condition.autoencoder is not None:
        stages["image autoencoder"] = config.condition.autoencoder.optimisation
    stages["denoiser"] = config.denoiser.optimisation
    if config.energy is not None:
        stages["energy"] = config.energy.optimisation
    return Training(
        command=command(preset, share.cpu_minutes),
        parameters=model_size(config),
        steps=", ".join(f"{stage} {each.steps:,} of {each.batch_size} images" for stage, each in stages.items()),
        augmentation=_augmentation(config.augment),
        cpu_minutes=round(cpu_seconds(run) / 60.0, 1),
        kept=f"weights of step {RunFolder(run).kept_step():,} of the last stage, the best GED on {config.validation_images} val images",
        seed=config.seed,
    )


def _training(contender: Contender, run: Path, size: int) -> Training:
    """Read how a baseline was trained from its run folder."""
    plan = Plan.read(run / PLAN_NAME)
    with safe_open(run / f"{contender.key}.safetensors", "pt") as opened:
        step = int(opened.metadata()["step"])
    return Training(
        command=f"python -m benchmarks.training.baselines train {contender.key} --data DATA --cpu-minutes {plan.cpu_minutes:g}",
        parameters=size,
        steps=f"{plan.steps:,} of {plan.batch_size} images",
        augmentation=_augmentation(RunFolder(run).config().augment),
        cpu_minutes=round(cpu_seconds(run) / 60.0, 1),
        kept=f"weights of step {step:,}, the best GED on {RunFolder(run).config().validation_images} val images",
        seed=plan.seed,
    )


def _augmentation(augment: AugmentConfig) -> str:
    """Describe the augmentation of a run."""
    turned = augment.turn_share if augment.rotation_deg or augment.zoom else 0.0
    mirrored = "mirrored, " if augment.flip else ""
    return f"{mirrored}shifted by up to {augment.shift_px} px, intensities by {augment.intensity:.0%}, {turned:.0%} turned and zoomed"
