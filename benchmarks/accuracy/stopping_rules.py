"""Rules for how many samples to draw, evaluated on prefixes of 64 samples of each image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medseg_runtime.result.metrics import Calibration
from medseg_runtime.result.stopping import MAX_SAMPLES, TOLERANCE, stages, standard_error
from medseg_runtime.result.uncertainty import confidence, pairwise_iou
from medseg_trainer.evaluation.statistics import Figure

FIXED = (4, 8, 12, 16, 32, MAX_SAMPLES)
"""Fixed numbers of samples, to compare with."""
REFERENCE = 32
TOLERANCES = sorted({0.04, 0.03, 0.025, 0.02, 0.0175, 0.015, 0.0125, 0.01, TOLERANCE}, reverse=True)
BOOTSTRAP_DRAWS = 1000

Bool = npt.NDArray[np.bool_]
Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Prefixes:
    """One image: the figures of its first n samples, for each n at which a rule may stop."""

    group: str
    standard_error: dict[int, float]
    ged: dict[int, float]
    brier: dict[int, float]
    """Mean squared difference of the confidence and the raters' mean, over the field."""
    brier_marked: dict[int, float]
    """The same over the pixels that a sample or a rater marked, as `medseg-train evaluate` reports it."""

    @classmethod
    def of(cls, group: str, masks: Bool, raters: Bool) -> Prefixes:
        """Evaluate masks (64, rows, columns) against raters (R, rows, columns), both cropped to the field."""
        counts = masks.cumsum(axis=0, dtype=np.int32)
        sizes = sorted({*FIXED, *(stage.stop for stage in stages(len(masks)))})
        maps = {n: confidence(counts[n - 1], n) for n in sizes}
        own, other, theirs = (1.0 - pairwise_iou(*pair) for pair in ((masks, masks), (masks, raters), (raters, raters)))
        return cls(
            group,
            {n: standard_error(counts[n - 1], n) for n in sizes},
            {n: float(2 * other[:n].mean() - own[:n, :n].mean() - theirs.mean()) for n in sizes},
            {n: float(np.square(maps[n] - raters.mean(axis=0)).mean()) for n in sizes},
            {n: Calibration.of(maps[n], raters).brier for n in sizes},
        )

    def stops_at(self, tolerance: float) -> int:
        """Return how many samples `auto` draws with this tolerance."""
        checks = [stage.stop for stage in stages(MAX_SAMPLES)]
        return next((n for n in checks if self.standard_error[n] <= tolerance), MAX_SAMPLES)


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """One rule, over all images."""

    name: str
    auto: bool
    default: bool
    """Whether it is the tolerance that the command uses."""
    drawn_median: float
    drawn_mean: float
    drawn_p90: float
    ged: float
    brier: float
    brier_ratio: Figure
    """`brier` over that of N = 32, interval by patients."""
    brier_marked: float
    brier_marked_ratio: Figure


def all_rules(images: list[Prefixes]) -> list[Rule]:
    """Evaluate the fixed numbers of samples and the tolerances of `auto`."""
    fixed = [_rule(f"N = {n}", images, [n] * len(images)) for n in FIXED]
    return fixed + [
        _rule(
            f"auto, {tolerance:g}" + (", the default" if tolerance == TOLERANCE else ""),
            images,
            [image.stops_at(tolerance) for image in images],
            auto=True,
            default=tolerance == TOLERANCE,
        )
        for tolerance in TOLERANCES
    ]


def _rule(name: str, images: list[Prefixes], drawn: list[int], *, auto: bool = False, default: bool = False) -> Rule:
    pairs = list(zip(images, drawn, strict=True))
    groups = [image.group for image in images]
    brier, reference = (np.array(b) for b in zip(*((i.brier[n], i.brier[REFERENCE]) for i, n in pairs), strict=True))
    marked, marked_reference = (
        np.array(b) for b in zip(*((i.brier_marked[n], i.brier_marked[REFERENCE]) for i, n in pairs), strict=True)
    )
    return Rule(
        name=name,
        auto=auto,
        default=default,
        drawn_median=float(np.median(drawn)),
        drawn_mean=float(np.mean(drawn)),
        drawn_p90=float(np.quantile(drawn, 0.9)),
        ged=float(np.mean([image.ged[n] for image, n in pairs])),
        brier=float(brier.mean()),
        brier_ratio=ratio_of_means(brier, reference, groups),
        brier_marked=float(marked.mean()),
        brier_marked_ratio=ratio_of_means(marked, marked_reference, groups),
    )


def ratio_of_means(values: Float64, reference: Float64, groups: list[str]) -> Figure:
    """Return the ratio of two means over the same images, with a 95 % interval, bootstrap over patients."""
    names = sorted(set(groups))
    sums = np.array([[(v[np.array(groups) == name]).sum() for v in (values, reference)] for name in names])
    draws = sums[np.random.default_rng(0).integers(0, len(names), (BOOTSTRAP_DRAWS, len(names)))].sum(axis=1)
    low, high = np.quantile(draws[:, 0] / draws[:, 1], [0.025, 0.975])
    return Figure(float(values.mean() / reference.mean()), float(low), float(high))
