"""Growth of one finding between two dates: the distribution of the ratio of its sizes, and of the time in which it doubles.

    ratio                   size of sample k after / size of sample k before
    doubling time           days x ln 2 / ln(ratio); none where the ratio is not above 1

Sample k of both results starts from the same noise, and so tends to be the same hypothesis: a reader who draws wide draws wide twice. So
samples are paired by their number. All pairs of samples would count the spread of the hypotheses twice, as if another reader measured each
date; benchmarks/results/README.md has what that costs (`growth`).

A pair has a ratio if both samples are not empty. Pairs in which the finding appears, vanishes or is absent twice are counted apart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medseg_runtime.errors import ParameterError
from medseg_runtime.result.distribution import Distribution
from medseg_runtime.result.measure import Hypotheses, hypotheses, measure
from medseg_runtime.result.measurements import Measurements
from medseg_runtime.result.segmentation import Segmentation

Float64 = npt.NDArray[np.float64]

GROWTH_PERCENT = 25.0
"""The change of a volume that the Fleischner Society (2017) and the NELSON trial take for growth."""


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Growth:
    """How one class changed from one result to another, over pairs of samples of one number."""

    class_name: str
    size: str
    """What was compared: `volume` or, of single slices, `area`."""
    before: Distribution
    after: Distribution
    ratio: Distribution
    """After / before of the pairs in which both samples are not empty, without a unit."""
    appeared: int
    """Pairs in which only the later sample is not empty."""
    vanished: int
    """Pairs in which only the earlier sample is not empty."""
    absent: int
    """Pairs in which both samples are empty."""
    growth_percent: float
    share_grown: float
    """Share of the ratios above 1 + growth_percent / 100: the probability that it grew by more. NaN without a ratio, of one class of several."""
    days: float | None

    def doubling_time_days(self, percent: float) -> float:
        """Return a percentile, 0 to 100, of the days in which the size doubles: that of a growth faster than `percent` of the pairs show.

        The 50th is of the median ratio. Infinite where the size does not grow; NaN if the days between the results are not known, or there is no ratio.
        """
        if self.days is None or not len(self.ratio):
            return math.nan
        ratio = self.ratio.percentile(percent)
        return self.days * math.log(2.0) / math.log(ratio) if ratio > 1.0 else math.inf


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One finding at one date."""

    hypotheses: Hypotheses
    measurements: tuple[Measurements, ...]

    @classmethod
    def of(cls, segmentations: Sequence[Segmentation]) -> Finding:
        """Measure one image, or neighbouring slices in their order; see `measure`."""
        measurements = measure(segmentations)
        return cls(hypotheses=hypotheses(segmentations[0]), measurements=measurements)


def compare(
    before: Sequence[Segmentation] | Finding,
    after: Sequence[Segmentation] | Finding,
    *,
    days: float | None = None,
    growth_percent: float = GROWTH_PERCENT,
) -> tuple[Growth, ...]:
    """Compare one finding at two dates: its volume, or its area if both are of one slice. One `Growth` per class.

    before, after: the segmentations of an image, or of neighbouring slices of a series in their order.
    days: between the dates, > 0. growth_percent: >= 0, what counts as growth.

    Raises:
        ParameterError: they differ in bundle, samples, seed, sampler, steps or threshold; sizes in pixels; a volume beside an area; a number
            out of range; or no pair of samples shows any class twice.
        ImageError: slices that are not parallel, or not in the order of their positions.
    """
    _check_numbers(days, growth_percent)
    first, second = (each if isinstance(each, Finding) else Finding.of(each) for each in (before, after))
    differing = first.hypotheses.differing(second.hypotheses)
    if differing:
        raise ParameterError(
            f"the results differ in {', '.join(differing)}: their samples are not the same hypotheses",
            "Segment both with the same model, --samples, --seed, --sampler, --steps and --threshold.",
        )
    pairs = zip(first.measurements, second.measurements, strict=True)
    growths = tuple(_growth(one, other, days, growth_percent) for one, other in pairs)
    if not any(len(each.ratio) for each in growths):
        raise ParameterError(
            f"no pair of samples shows {' or '.join(each.class_name for each in growths)} in both results",
            "Look at the results: the finding is absent in one of them, or the point is beside it.",
        )
    return growths


def _check_numbers(days: float | None, growth_percent: float) -> None:
    if days is not None and not (math.isfinite(days) and days > 0):
        raise ParameterError(
            f"{days:g} days between the results is out of range", "Give a number above 0, for example --days 90."
        )
    if not (math.isfinite(growth_percent) and growth_percent >= 0):
        raise ParameterError(
            f"a growth of {growth_percent:g} % is out of range", "Give a number of at least 0, for example --growth 25."
        )


def _growth(before: Measurements, after: Measurements, days: float | None, growth_percent: float) -> Growth:
    size, one, other = _sizes(before, after)
    there = one.values > 0, other.values > 0
    both = there[0] & there[1]
    ratio = Distribution(other.values[both] / one.values[both], "")
    return Growth(
        class_name=before.class_name,
        size=size,
        before=one,
        after=other,
        ratio=ratio,
        appeared=int(np.count_nonzero(~there[0] & there[1])),
        vanished=int(np.count_nonzero(there[0] & ~there[1])),
        absent=int(np.count_nonzero(~there[0] & ~there[1])),
        growth_percent=growth_percent,
        share_grown=ratio.share_above(1.0 + growth_percent / 100.0),
        days=days,
    )


def _sizes(before: Measurements, after: Measurements) -> tuple[str, Distribution, Distribution]:
    if "px" in (before.area.unit, after.area.unit):
        raise ParameterError(
            "sizes in pixels of two images do not compare",
            "Give images that state their spacing, such as DICOM or NIfTI.",
        )
    if before.volume is not None and after.volume is not None:
        return "volume", before.volume, after.volume
    if before.slices == after.slices == 1:
        return "area", before.area, after.area
    raise ParameterError(
        "one result has a volume and the other has not",
        "Segment both with --slices that hold the whole finding, of series that state their position in the patient.",
    )
