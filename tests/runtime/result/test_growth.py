"""How a finding changed between two dates: ratios, doubling times, and what is refused."""

import math
from dataclasses import replace

import numpy as np
import pytest

from medseg_runtime import ImageError, ParameterError, compare
from medseg_runtime.readers.patient_plane import PatientPlane
from medseg_runtime.result.growth import Finding
from medseg_runtime.result.measure import Hypotheses
from medseg_runtime.result.measurements import MeasuredSlice, measured

MADE_FROM = Hypotheses(
    bundle_sha256="0" * 64, classes=("nodule",), samples=4, seed=0, sampler="euler", steps=1, threshold=0.5
)


def finding(pixels, *, slices=3, spacing_mm=(1.0, 1.0), placed=True, **changes):
    """A finding whose sample k has pixels[k] pixels in the middle slice."""
    masks = np.zeros((len(pixels), 1, 10, 10), bool)
    for mask, count in zip(masks, pixels, strict=True):
        mask.reshape(-1)[:count] = True
    nothing, uncut = np.zeros_like(masks), np.zeros((len(pixels), 1), bool)
    series = [
        MeasuredSlice(
            masks=masks if z == slices // 2 else nothing, spacing_mm=spacing_mm, plane=plane(z, placed), cut=uncut
        )
        for z in range(slices)
    ]
    return Finding(
        hypotheses=replace(MADE_FROM, samples=len(pixels), **changes), measurements=measured(series, ["nodule"])
    )


def plane(z, placed):
    return PatientPlane.parse((0, 0, 2.0 * z), (1, 0, 0, 0, 1, 0), (1, 1)) if placed else None


def test_samples_are_paired_by_their_number():
    (found,) = compare(finding([10, 20, 40, 8]), finding([20, 40, 80, 12]), days=100)
    assert found.size == "volume"
    assert found.ratio.values.tolist() == [2, 2, 2, 1.5]
    assert (found.share_grown, found.growth_percent) == (1.0, 25.0)
    assert found.doubling_time_days(50) == pytest.approx(100)
    assert found.doubling_time_days(5) > 100
    assert found.before.values.tolist() == [20, 40, 80, 16]  # mm3: slices are 2 mm apart


def test_growth_is_more_than_the_percent_asked_for():
    before, after = finding([8, 8, 8, 8]), finding([10, 11, 8, 4])
    assert compare(before, after)[0].share_grown == 0.25  # 25 % is not more than 25 %
    assert compare(before, after, growth_percent=0)[0].share_grown == 0.5
    assert compare(before, after, growth_percent=40)[0].share_grown == 0


def test_what_does_not_grow_has_no_doubling_time():
    (found,) = compare(finding([8, 8]), finding([8, 4]), days=10)
    assert math.isinf(found.doubling_time_days(95))
    assert math.isnan(compare(finding([8]), finding([16]))[0].doubling_time_days(50))


def test_samples_without_a_finding_are_counted_apart():
    (found,) = compare(finding([8, 8, 0, 0]), finding([16, 0, 16, 0]))
    assert (found.ratio.values.tolist(), found.appeared, found.vanished, found.absent) == ([2], 1, 1, 1)


def test_single_slices_are_compared_by_area():
    (found,) = compare(finding([8, 4], slices=1), finding([12, 6], slices=1))
    assert (found.size, found.before.unit, found.ratio.values.tolist()) == ("area", "mm2", [1.5, 1.5])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bundle_sha256": "1" * 64}, "bundle_sha256: their samples"),
        ({"seed": 1, "threshold": 0.4}, "seed, threshold"),
        ({"classes": ("polyp",)}, "classes"),
        ({"sampler": "ddim"}, "sampler"),
        ({"steps": 2}, "steps"),
        ({"spacing_mm": None}, "sizes in pixels"),
        ({"slices": 1}, "one result has a volume"),
        ({"placed": False}, "one result has a volume"),
    ],
)
def test_what_makes_the_ratio_meaningless_is_refused(changes, message):
    with pytest.raises(ParameterError, match=message):
        compare(finding([8, 8]), finding([8, 8], **changes))


def test_one_class_of_several_may_be_absent():
    there, absent = finding([8, 8]), finding([0, 0])
    before, after = (
        replace(there, measurements=(*there.measurements, *other.measurements)) for other in (absent, there)
    )
    nodule, other = compare(before, after, days=9)
    assert nodule.ratio.values.tolist() == [1, 1]
    assert (len(other.ratio), other.appeared) == (0, 2)
    assert math.isnan(other.share_grown)
    assert math.isnan(other.doubling_time_days(50))


def test_other_numbers_of_samples_are_refused():
    with pytest.raises(ParameterError, match="differ in samples"):
        compare(finding([8, 8]), finding([8, 8, 8]))


def test_a_finding_that_no_pair_shows_twice_is_refused():
    with pytest.raises(ParameterError, match="no pair of samples shows nodule"):
        compare(finding([8, 0]), finding([0, 8]))


@pytest.mark.parametrize("days", [0, -1, math.nan, math.inf])
def test_days_are_above_0(days):
    with pytest.raises(ParameterError, match="days between the results"):
        compare(finding([8]), finding([8]), days=days)


@pytest.mark.parametrize("percent", [-1, math.nan, math.inf])
def test_growth_is_at_least_0(percent):
    with pytest.raises(ParameterError, match="out of range"):
        compare(finding([8]), finding([8]), growth_percent=percent)


def test_nothing_is_refused():
    with pytest.raises((ParameterError, ImageError), match="no segmentation"):
        compare([], finding([8]))
