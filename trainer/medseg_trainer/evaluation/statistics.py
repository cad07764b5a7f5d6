"""Metrics of one image against its raters, and their means over images with intervals bootstrapped over patients."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medseg_runtime.result import metrics, uncertainty
from medseg_runtime.result.metrics import Calibration, Overlaps
from medseg_runtime.result.segmentation import Segmentation
from medseg_trainer.data.layouts import Case

Bool = npt.NDArray[np.bool_]
BOOTSTRAP_DRAWS = 1000
SMALL_TARGET_PX = 20
MANY = 100
"""Samples for `ged_100`."""
TITLES = {
    "ged": "GED (lower is better)",
    "ged_100": f"GED of {MANY} samples",
    "hm_iou": "HM-IoU (higher is better)",
    "sample_diversity": "diversity of the samples, i != j",
    "rater_diversity": "diversity of the raters, i != j",
    "consensus_dice": "Dice of the consensus against the raters' majority",
    "consensus_iou": "IoU of the consensus against the raters' majority",
    "small_dice": f"the same Dice, targets under {SMALL_TARGET_PX} px",
    "small_iou": f"the same IoU, targets under {SMALL_TARGET_PX} px",
    "hd95_px": "HD95 of the consensus, pixels, where neither it nor the majority is empty",
    "hd95_mm": "the same, mm",
    "one_empty": "share of images where one of the two is empty and the other not",
    "empty_samples": "share of empty samples",
    "empty_raters": "share of empty raters",
    "brier": "Brier score of the confidence",
    "ece": "expected calibration error of the confidence",
    "ged_one_noise": "GED with all samples from one noise",
    "hm_iou_one_noise": "HM-IoU with all samples from one noise",
}
"""Metric -> its title in tables."""


@dataclass(frozen=True, slots=True)
class CaseFigures:
    """The metrics of one image, or of one class of it."""

    name: str
    group: str
    values: dict[str, float]
    """By the keys of `TITLES`. NaN if undefined, as the diversity of one rater or the HD95 of an empty mask."""
    calibration: Calibration


@dataclass(frozen=True, slots=True)
class Figure:
    """The mean of a metric over the images where it is defined, and its 95 % interval, bootstrapped over patients."""

    mean: float
    low: float
    high: float


def measure(case: Case, result: Segmentation, samples: int | None = None) -> list[CaseFigures]:
    """Compare one result with the raters, class by class.

    samples: use only the first so many samples, except for `ged_100`; None: all.
    """
    several = len(result.classes) > 1
    return [
        _measure_class(
            f"{case.name}:{result.classes[c]}" if several else case.name,
            case,
            result.masks[:, c] if several else result.masks,
            case.masks == c + 1,
            len(result.masks) if samples is None else samples,
        )
        for c in range(len(result.classes))
    ]


def _measure_class(name: str, case: Case, masks: Bool, raters: Bool, count: int) -> CaseFigures:
    confidence = uncertainty.confidence(np.count_nonzero(masks[:count], axis=0), count)
    calibration = Calibration.of(confidence, raters)
    overlaps = Overlaps.of(masks, raters)
    values = _set_metrics(overlaps.of_samples(slice(count)))
    values["ged_100"] = overlaps.of_samples(slice(MANY)).ged() if len(masks) >= MANY else math.nan
    values |= _consensus_metrics(uncertainty.consensus(confidence), metrics.majority(raters), case.spacing_mm)
    values["empty_samples"] = float(np.mean(~masks[:count].any(axis=(1, 2))))
    values["empty_raters"] = float(np.mean(~raters.any(axis=(1, 2))))
    values["brier"] = calibration.brier
    return CaseFigures(name, case.group, values, calibration)


def _set_metrics(overlaps: Overlaps) -> dict[str, float]:
    one_noise = overlaps.of_samples(slice(1))
    return {
        "ged": overlaps.ged(),
        "hm_iou": overlaps.hm_iou(),
        "sample_diversity": overlaps.sample_diversity,
        "rater_diversity": overlaps.rater_diversity,
        # all samples from one noise: shows how much of the result the noise decides
        "ged_one_noise": one_noise.ged(),
        "hm_iou_one_noise": one_noise.hm_iou(),
    }


def _consensus_metrics(consensus: Bool, target: Bool, spacing_mm: tuple[float, float] | None) -> dict[str, float]:
    dice, iou = metrics.dice(consensus, target), metrics.iou(consensus, target)
    small = 0 < np.count_nonzero(target) < SMALL_TARGET_PX
    return {
        "consensus_dice": dice,
        "consensus_iou": iou,
        "small_dice": dice if small else math.nan,
        "small_iou": iou if small else math.nan,
        "hd95_px": metrics.hausdorff_95(consensus, target) if target.any() else math.nan,
        "hd95_mm": metrics.hausdorff_95(consensus, target, spacing_mm) if spacing_mm and target.any() else math.nan,
        "one_empty": float(consensus.any() != target.any()),
    }


def summarise(figures: list[CaseFigures]) -> dict[str, Figure]:
    """Average each metric over images, with intervals bootstrapped over patients. The ECE is over the pixels of all images."""
    summary = averages([(f.group, f.values) for f in figures])
    members, drawn = _patients([f.group for f in figures])
    summary["ece"] = _ece([pooled([figures[k] for k in of_patient]) for of_patient in members], drawn)
    return summary


def averages(values: Sequence[tuple[str, Mapping[str, float]]]) -> dict[str, Figure]:
    """Average each metric over the images where it is defined, with intervals bootstrapped over patients.

    values: patient and metrics of each image or mask; NaN where a metric is undefined. All have the same metrics.
    """
    members, drawn = _patients([group for group, _ in values])
    summary = {}
    for name in values[0][1]:
        per_group = np.array([_sum_and_count([values[k][1][name] for k in of_patient]) for of_patient in members])
        total, count = per_group.sum(axis=0)
        draws = per_group[drawn].sum(axis=1)
        with np.errstate(invalid="ignore"):
            summary[name] = _figure(float(total / count) if count else math.nan, draws[:, 0] / draws[:, 1])
    return summary


def _patients(groups: Sequence[str]) -> tuple[list[list[int]], npt.NDArray[np.int64]]:
    """Return the indices of each patient's images, and the bootstrap samples: (BOOTSTRAP_DRAWS, patients) patient indices."""
    members: dict[str, list[int]] = {group: [] for group in sorted(set(groups))}
    for number, group in enumerate(groups):
        members[group].append(number)
    return list(members.values()), np.random.default_rng(0).integers(0, len(members), (BOOTSTRAP_DRAWS, len(members)))


def pooled(figures: list[CaseFigures]) -> Calibration:
    """Return the calibration over the pixels of several images."""
    return sum((f.calibration for f in figures[1:]), start=figures[0].calibration)


def _ece(calibrations: list[Calibration], drawn: npt.NDArray[np.int64]) -> Figure:
    counts, gaps = (np.array([getattr(c, k) for c in calibrations]) for k in ("count", "gap"))
    draws = np.abs(gaps[drawn].sum(axis=1)).sum(axis=1) / counts[drawn].sum(axis=(1, 2)).clip(1)
    return _figure(sum(calibrations[1:], start=calibrations[0]).expected_calibration_error, draws)


def _sum_and_count(values: list[float]) -> tuple[float, int]:
    known = [value for value in values if not math.isnan(value)]
    return sum(known), len(known)


def _figure(mean: float, draws: npt.NDArray[np.float64]) -> Figure:
    known = draws[np.isfinite(draws)]
    low, high = np.quantile(known, [0.025, 0.975]) if len(known) else (math.nan, math.nan)
    return Figure(mean, float(low), float(high))
