"""Limits of measurements, as Python users give them."""

import json
import math

import numpy as np
import pytest

from medseg_runtime import Limit, ParameterError
from medseg_runtime.result.distribution import Distribution
from medseg_runtime.result.measurement_record import measurement_record, said, share_above
from medseg_runtime.result.measurements import MeasuredSlice, measured
from medseg_runtime.testing import toy_segmenter


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0, "250", None, True])
def test_a_limit_is_a_number_of_at_least_0(value):
    with pytest.raises(ParameterError, match="not a number of at least 0"):
        Limit("area_mm2", value)


def test_a_limit_has_a_measurement_with_its_unit():
    assert Limit.parse(" area_mm2=12.5") == Limit("area_mm2", 12.5)
    assert str(Limit("area_mm2", np.float32(2))) == "area_mm2=2"
    with pytest.raises(ParameterError, match="no measurement 'area'"):
        Limit("area", 1.0)


def test_an_empty_sample_is_above_no_limit_and_has_no_part_in_what_is_present():
    masks = np.zeros((4, 1, 5, 5), bool)
    masks[0, 0, :2, :2] = masks[1, 0, 1:4, 1:4] = True
    slices = [MeasuredSlice(masks=masks, spacing_mm=(0.5, 2.0), plane=None, cut=np.zeros((4, 1), bool))]
    measurements = measured(slices, ["nodule"])
    assert share_above(measurements[0], Limit("area_mm2", 4)) == 0.25
    assert share_above(measurements[0], Limit("long_axis_mm", 0)) == 0.5
    (record,) = measurement_record(measurements)
    assert record["area_mm2"]["values"] == [4.0, 9.0, 0.0, 0.0]
    assert (record["presence"], record["area_mm2"]["median"], record["area_mm2"]["present"]["median"]) == (
        0.5,
        2.0,
        6.5,
    )


def test_sizes_are_said_without_powers_of_ten():
    assert said(Distribution(np.array([1234.5]), "mm3")) == "1234 mm3 (1234 to 1234)"
    assert said(Distribution(np.array([6.789]), "mm")) == "6.79 mm (6.79 to 6.79)"


def test_what_is_not_defined_is_none():
    empty = MeasuredSlice(masks=np.zeros((1, 1, 2, 2), bool), spacing_mm=None, plane=None, cut=np.zeros((1, 1), bool))
    (record,) = measurement_record(measured([empty], ["nodule"]))
    assert record["area_px"]["standard_deviation"] is None
    assert set(record["area_px"]["present"].values()) == {None}


def test_saved_results_say_the_share_above_a_limit(tmp_path):
    result = toy_segmenter()(np.zeros((128, 128), np.uint8), samples=4)
    result.save(tmp_path / "out", limits=[Limit("area_px", float(np.median(result.areas)))])
    (found,) = json.loads((tmp_path / "out/result.json").read_text())["measurements"]
    assert found["limits"][0]["share_above"] == 0.5
    with pytest.raises(ParameterError, match="in mm, and the image states no size"):
        result.save(tmp_path / "other", limits=[Limit("area_mm2", 1)])
    assert not (tmp_path / "other").exists()
