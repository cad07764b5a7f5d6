"""A bundle and the trained baselines on the same images, by the same lines."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from safetensors import safe_open

from benchmarks.baselines.baseline import segmenter_of
from benchmarks.baselines.budget import PLAN_NAME, Plan, spent
from benchmarks.baselines.contenders import CONTENDERS, Contender, model_size
from benchmarks.baselines.masks import MaskContest
from benchmarks.baselines.measured import COMPARED, measure_all
from benchmarks.baselines.own import FAST, OWN, SHARE_NAME, Own, Share, command, trained_own
from benchmarks.baselines.report import MAP, Report, Row, Training
from benchmarks.baselines.training import trained
from benchmarks.latency.machine import Machine
from benchmarks.latency.networks import parameters, preset_of
from benchmarks.paired import existing, paired
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
class Question:
    """What is compared."""

    bundle: Path | None
    """None: the one that ships."""
    data: Path
    runs: Path
    """Folder of the baselines' run folders."""
    images: int | None
    """Measure only that many, evenly spaced; None: all."""
    seed: int
    command: str


def hold(question: Question, machine: Machine) -> Report:
    """Measure the bundle, and everything that was trained within the budget; what has no run folder is left out.

    Raises:
        BundleError: the bundle cannot be read, or no preset has its networks.
        CheckpointError: a training has not come to its end, or our own recipe has none.
        DataError: the data are missing, or do not pair.
    """
    start = time.monotonic()
    segmenter = Segmenter.load(question.bundle, backend="onnxruntime")
    classes = segmenter.manifest.classes
    there = {key for key in (*CONTENDERS, *OWN) if (question.runs / key).exists()} | {FAST}
    baselines = [(one, *trained(one, question.runs / key)) for key, one in CONTENDERS.items() if key in there]
    own = {key: trained_own(question.runs / key) for key in OWN if key in there}
    cases = read_cases(question.data, SPLIT, len(classes), classes[0]).evenly(question.images)
    settings = SampleSettings(samples=SAMPLES, seed=question.seed)
    shipped, _ = measure_all(segmenter, cases, settings, "shipped")
    ours = {key: measure_all(drawing, cases, settings, key)[0] for key, (drawing, _) in own.items()}
    rows = [_row("shipped", "ours, as shipped", SAMPLES, _shipped_training(question), shipped, ())]
    for key, (_, config) in own.items():
        training = _own_training(OWN[key], question.runs / key, config)
        less_than = () if key == FAST else ours[FAST]
        rows.append(_row(key, OWN[key].title, SAMPLES, training, ours[key], less_than))
    for contender, baseline, config in baselines:
        training = _training(contender, question.runs / contender.key, parameters(baseline))
        rows += _measured(contender, segmenter_of(baseline, config), cases, training, question.seed, ours[FAST])
    path = question.runs / MASKS_NAME
    return Report(
        date=datetime.now(UTC).date().isoformat(),
        command=question.command,
        seconds=round(time.monotonic() - start, 1),
        machine=machine,
        model=segmenter.manifest.name,
        bundle_sha256=segmenter.bundle_sha256,
        split=SPLIT,
        images=len(cases),
        patients=cases.num_groups,
        seed=question.seed,
        rows=tuple(rows),
        masks=MaskContest.read(path) if path.exists() else None,
    )


def _measured(
    contender: Contender,
    segmenter: Segmenter,
    cases: Cases,
    training: Training,
    seed: int,
    ours: Sequence[CaseFigures],
) -> list[Row]:
    """Return a baseline's row, and of one that answers with a single mask a second one of its probability map."""
    settings = SampleSettings(samples=contender.samples, seed=seed)
    masks, maps = measure_all(segmenter, cases, settings, contender.key)
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


def _shipped_training(question: Question) -> Training:
    """Read what a bundle says of its training."""
    bundle = Bundle.load(question.bundle)
    told = bundle.manifest.training
    return Training(
        command=told["data"]["command"],
        parameters=model_size(preset_of(bundle)),
        steps=", ".join(f"{stage} {steps:,}" for stage, steps in told["steps"].items()),
        augmentation="not recorded in a bundle",
        cpu_minutes=None,
        kept=told["kept"],
        seed=told["seed"],
    )


def _own_training(own: Own, run: Path, config: TrainConfig) -> Training:
    """Read what the run folder of one of our presets says."""
    share = Share.read(run / SHARE_NAME)
    stages = {"mask autoencoder": config.mask_autoencoder.optimisation}
    if config.condition.autoencoder is not None:
        stages["image autoencoder"] = config.condition.autoencoder.optimisation
    stages["denoiser"] = config.denoiser.optimisation
    if config.energy is not None:
        stages["energy"] = config.energy.optimisation
    return Training(
        command=command(own, share.cpu_minutes),
        parameters=model_size(config),
        steps=", ".join(f"{stage} {each.steps:,} of {each.batch_size} images" for stage, each in stages.items()),
        augmentation=_augmentation(config.augment),
        cpu_minutes=round(spent(run) / 60.0, 1),
        kept=f"weights of step {RunFolder(run).kept_step():,} of the last stage, the best GED on {config.validation_images} val images",
        seed=config.seed,
    )


def _training(contender: Contender, run: Path, size: int) -> Training:
    """Read what a baseline's run folder says."""
    plan = Plan.read(run / PLAN_NAME)
    with safe_open(run / f"{contender.key}.safetensors", "pt") as opened:
        step = int(opened.metadata()["step"])
    return Training(
        command=f"python -m benchmarks.baselines train {contender.key} --data DATA --cpu-minutes {plan.cpu_minutes:g}",
        parameters=size,
        steps=f"{plan.steps:,} of {plan.batch_size} images",
        augmentation=_augmentation(RunFolder(run).config().augment),
        cpu_minutes=round(spent(run) / 60.0, 1),
        kept=f"weights of step {step:,}, the best GED on {RunFolder(run).config().validation_images} val images",
        seed=plan.seed,
    )


def _augmentation(augment: AugmentConfig) -> str:
    """Say what was done to the images of a run."""
    turned = augment.turn_share if augment.rotation_deg or augment.zoom else 0.0
    mirrored = "mirrored, " if augment.flip else ""
    return f"{mirrored}shifted by up to {augment.shift_px} px, intensities by {augment.intensity:.0%}, {turned:.0%} turned and zoomed"
