"""Measure a segmenter against several raters: figures per image, and their means with intervals over patients.

Works on any `Segmenter`, so a checkpoint in torch and an exported bundle on any backend are measured by the same lines, in the
image's own grid.
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

import numpy as np
import numpy.typing as npt
from rich.progress import track

from medseg_runtime import metrics
from medseg_runtime.errors import ParameterError
from medseg_runtime.metrics import Calibration
from medseg_runtime.segmenter import Segmentation, Segmenter
from medseg_trainer.data import Case, Split, read_cases

BOOTSTRAP_DRAWS = 1000


@dataclass(frozen=True, slots=True)
class CaseFigures:
    """The figures of one image (or of one class of it)."""

    name: str
    group: str
    values: dict[str, float]
    """NaN where a figure does not exist: diversity of a single rater, or sample."""
    calibration: Calibration


@dataclass(frozen=True, slots=True)
class Figure:
    """A mean over images and its 95 % interval, bootstrapped over patients."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """The figures of a model on a split, and how they were made."""

    model: str
    bundle_sha256: str
    split: Split
    images: int
    groups: int
    samples: int
    steps: int
    sampler: str
    seed: int
    backend: str
    date: str
    command: str
    seconds: float
    figures: dict[str, Figure]

    def to_json(self) -> str:
        """Return it as JSON; a figure that does not exist is null."""
        content = dataclasses.asdict(self)
        for figure in content["figures"].values():
            figure.update({key: None if math.isnan(value) else round(value, 5) for key, value in figure.items()})
        return json.dumps(content, indent=2) + "\n"


def split_named(name: str) -> Split:
    """Check the name of a split.

    Raises:
        ParameterError: it is none.
    """
    for split in get_args(Split):
        if split == name:
            found: Split = split
            return found
    raise ParameterError(f"there is no split {name!r}", "Use train, val or test.")


def evaluate(
    segmenter: Segmenter, data: Path, split: Split, *, samples: int, steps: int | None, seed: int, images: int | None
) -> Evaluation:
    """Measure a segmenter on a split, image after image.

    images: measure only that many, evenly spaced; None: all.

    Raises:
        DataError: the data are missing, or do not pair.
    """
    started = time.monotonic()
    cases = list(read_cases(data, split, len(segmenter.manifest.classes)))
    if images is not None and images < len(cases):
        cases = [cases[k * len(cases) // images] for k in range(images)]
    figures = []
    result = None
    for case, result in draw(segmenter, track(cases, f"evaluating {split}"), samples=samples, steps=steps, seed=seed):
        figures += measure(case, result)
    assert result is not None
    options = "" if images is None else f" --images {images}"
    return Evaluation(
        model=segmenter.manifest.name,
        bundle_sha256=segmenter.bundle_sha256,
        split=split,
        images=len(cases),
        groups=len({case.group for case in cases}),
        samples=samples,
        steps=result.steps,
        sampler=result.sampler,
        seed=seed,
        backend=f"{segmenter.backend.name} {segmenter.backend.version}",
        date=datetime.now(UTC).date().isoformat(),
        command=f"medseg-train evaluate --split {split} --samples {samples} --steps {result.steps} --seed {seed}{options}",
        seconds=round(time.monotonic() - started, 1),
        figures=summarise(figures),
    )


def draw(
    segmenter: Segmenter, cases: Iterable[Case], *, samples: int, steps: int | None, seed: int
) -> Iterator[tuple[Case, Segmentation]]:
    """Segment case after case, each with noise of its own: seed + 1000 times its number."""
    for number, case in enumerate(cases):
        yield case, segmenter(case.image, samples=samples, steps=steps, seed=seed + 1000 * number)


def measure(case: Case, result: Segmentation) -> list[CaseFigures]:
    """Compare one result with the raters, class by class."""
    several = len(result.classes) > 1
    return [
        _measure_class(
            f"{case.name}:{result.classes[c]}" if several else case.name,
            case.group,
            result.masks[:, c] if several else result.masks,
            result.confidence[c] if several else result.confidence,
            case.masks == c + 1,
        )
        for c in range(len(result.classes))
    ]


def _measure_class(
    name: str,
    group: str,
    samples: npt.NDArray[np.bool_],
    confidence: npt.NDArray[np.float32],
    raters: npt.NDArray[np.bool_],
) -> CaseFigures:
    consensus, majority = confidence > 0.5, metrics.majority(raters)
    calibration = Calibration.of(confidence, raters)
    values = {
        "ged": metrics.generalized_energy_distance(samples, raters),
        "hm_iou": metrics.hungarian_matched_iou(samples, raters),
        "sample_diversity": metrics.diversity(samples),
        "rater_diversity": metrics.diversity(raters),
        # what is left when every sample starts from one noise: does the model use it?
        "ged_one_noise": metrics.generalized_energy_distance(samples[:1], raters),
        "hm_iou_one_noise": metrics.hungarian_matched_iou(samples[:1], raters),
        "consensus_dice": metrics.dice(consensus, majority),
        "consensus_iou": metrics.iou(consensus, majority),
        "empty_samples": float(np.mean(~samples.any(axis=(1, 2)))),
        "empty_raters": float(np.mean(~raters.any(axis=(1, 2)))),
        "brier": calibration.brier,
    }
    return CaseFigures(name, group, values, calibration)


def summarise(figures: list[CaseFigures]) -> dict[str, Figure]:
    """Average over images, with intervals from drawing patients with replacement; ECE is over the pixels of all images."""
    groups = sorted({f.group for f in figures})
    members = [[f for f in figures if f.group == group] for group in groups]
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, len(groups), (BOOTSTRAP_DRAWS, len(groups)))
    summary = {}
    for name in figures[0].values:
        per_group = np.array([_sum_and_count([f.values[name] for f in member]) for member in members])
        total, count = per_group.sum(axis=0)
        draws = per_group[drawn].sum(axis=1)
        with np.errstate(invalid="ignore"):
            summary[name] = _figure(float(total / count) if count else float("nan"), draws[:, 0] / draws[:, 1])
    calibrations = [sum((f.calibration for f in member[1:]), start=member[0].calibration) for member in members]
    counts, gaps = (np.array([getattr(c, k) for c in calibrations]) for k in ("count", "gap"))
    ece = np.abs(gaps[drawn].sum(axis=1)).sum(axis=1) / counts[drawn].sum(axis=(1, 2)).clip(1)
    whole = sum(calibrations[1:], start=calibrations[0])
    summary["ece"] = _figure(whole.expected_calibration_error, ece)
    return summary


def _sum_and_count(values: list[float]) -> tuple[float, int]:
    known = [value for value in values if not np.isnan(value)]
    return sum(known), len(known)


def _figure(mean: float, draws: npt.NDArray[np.float64]) -> Figure:
    known = draws[np.isfinite(draws)]
    low, high = np.quantile(known, [0.025, 0.975]) if len(known) else (float("nan"), float("nan"))
    return Figure(mean, float(low), float(high))
