"""Metrics of one image, and their means over images with intervals over patients."""

import math
from dataclasses import replace

import numpy as np
import pytest

from medseg_runtime.result import metrics
from medseg_runtime.result.metrics import Calibration
from medseg_runtime.testing import toy_manifest, toy_segmenter
from medseg_trainer.evaluation.statistics import TITLES, CaseFigures, measure, summarise
from tests.trainer.evaluation.phantom_case import make_case


def figures(value, group, calibration=None):
    nothing = Calibration.of(np.zeros((2, 2), np.float32), np.zeros((1, 2, 2), bool))
    return CaseFigures("a", group, {"ged": value}, calibration or nothing)


def test_metrics_are_those_of_the_runtime():
    case = make_case()
    result = toy_segmenter()(case.image, samples=6)
    (found,) = measure(case, result)
    raters, majority = case.masks > 0, metrics.majority(case.masks > 0)
    assert (found.name, found.group) == ("a", "p")
    assert found.values == pytest.approx(
        {
            "ged": metrics.generalized_energy_distance(result.masks, raters),
            "hm_iou": metrics.hungarian_matched_iou(result.masks, raters),
            "sample_diversity": metrics.diversity(result.masks),
            "rater_diversity": metrics.diversity(raters),
            "ged_one_noise": metrics.generalized_energy_distance(np.stack([result.masks[0]] * 6), raters),
            "hm_iou_one_noise": metrics.hungarian_matched_iou(np.stack([result.masks[0]] * 6), raters),
            "consensus_dice": metrics.dice(result.consensus, majority),
            "consensus_iou": metrics.iou(result.consensus, majority),
            "empty_samples": 0.0,
            "empty_raters": 0.0,
            "brier": Calibration.of(result.confidence, raters).brier,
            "small_dice": math.nan,
            "small_iou": math.nan,
            "hd95_px": metrics.hausdorff_95(result.consensus, majority),
            "hd95_mm": math.nan,
            "one_empty": 0.0,
            "ged_100": math.nan,
        },
        nan_ok=True,
    )
    assert found.values.keys() | {"ece"} == TITLES.keys()


def test_the_first_samples_are_measured_and_a_hundred_only_for_ged_100():
    case = make_case()
    many, few = (toy_segmenter()(case.image, samples=count) for count in (100, 16))
    (of_many,), (of_few,) = measure(case, many, 16), measure(case, few)
    ged_100 = of_many.values["ged_100"]
    assert ged_100 == pytest.approx(metrics.generalized_energy_distance(many.masks, case.masks > 0))
    assert of_many.values == pytest.approx(of_few.values | {"ged_100": ged_100}, nan_ok=True)
    assert ged_100 != of_few.values["ged"]
    np.testing.assert_array_equal(of_many.calibration.count, of_few.calibration.count)


@pytest.mark.parametrize(("side", "small"), [(4, True), (5, False)])  # 16 and 25 px; the limit is 20
def test_small_targets_are_measured_apart(side, small):
    case = make_case()
    case.masks[:] = 0
    case.masks[:2, 60 : 60 + side, 60 : 60 + side] = 1  # two of four raters are a majority
    values = measure(case, toy_segmenter()(case.image, samples=3))[0].values
    for figure in ("dice", "iou"):
        assert values[f"small_{figure}"] == pytest.approx(
            values[f"consensus_{figure}"] if small else math.nan, nan_ok=True
        )


def test_hd95_is_in_mm_where_the_spacing_is_known():
    case = replace(make_case(), spacing_mm=(0.5, 0.5))
    values = measure(case, toy_segmenter()(case.image, samples=3))[0].values
    assert values["hd95_mm"] == pytest.approx(0.5 * values["hd95_px"])
    assert values["hd95_mm"] > 0.0


def test_an_empty_consensus_beside_a_target_has_no_hd95_and_is_counted():
    case = make_case()
    result = toy_segmenter()(case.image, samples=3)
    result.masks[:] = False
    values = measure(case, result)[0].values
    assert math.isnan(values["hd95_px"])
    assert (values["one_empty"], values["consensus_dice"]) == (1.0, 0.0)


def test_two_empty_masks_have_no_hd95():
    case = make_case()
    case.masks[:] = 0
    result = toy_segmenter()(case.image, samples=3)
    result.masks[:] = False
    values = measure(case, result)[0].values
    assert math.isnan(values["hd95_px"])
    assert (values["one_empty"], values["consensus_dice"]) == (0.0, 1.0)


def test_empty_masks_are_counted():
    case = make_case()
    case.masks[2:] = 0
    result = toy_segmenter()(case.image, samples=3)
    result.masks[0] = False
    values = measure(case, result)[0].values
    assert (values["empty_samples"], values["empty_raters"]) == (pytest.approx(1 / 3), 0.5)


def test_several_classes_are_measured_one_by_one():
    case = make_case(raters=4, classes=2)
    result = toy_segmenter(toy_manifest(classes=("core", "rim")))(case.image, samples=5)
    found = measure(case, result)
    assert [f.name for f in found] == ["a:core", "a:rim"]
    for c, f in enumerate(found):
        ged = metrics.generalized_energy_distance(result.masks[:, c], case.masks == c + 1)
        assert f.values["ged"] == pytest.approx(ged)
    assert found[0].values["ged"] != found[1].values["ged"]


def test_a_single_rater_or_sample_has_no_diversity():
    case = make_case(raters=1)
    values = measure(case, toy_segmenter()(case.image, samples=1))[0].values
    assert math.isnan(values["sample_diversity"])
    assert math.isnan(values["rater_diversity"])
    assert not math.isnan(values["ged"])


def width(figure):
    return figure.high - figure.low


def test_intervals_are_bootstrapped_over_patients_not_images():
    """Ten patients with forty similar images each: the interval must be that of ten values, not of four hundred."""
    rng = np.random.default_rng(1)
    values = rng.normal(0.5, 0.1, 10).repeat(40) + rng.normal(0, 0.001, 400)
    by_patient = summarise([figures(v, f"p{k // 40}") for k, v in enumerate(values)])["ged"]
    by_image = summarise([figures(v, f"p{k}") for k, v in enumerate(values)])["ged"]
    assert by_patient.mean == pytest.approx(values.mean())
    assert by_image.mean == pytest.approx(values.mean())
    assert width(by_patient) == pytest.approx(2 * 1.96 * 0.1 / 10**0.5, rel=0.4)
    assert width(by_patient) > 4 * width(by_image)
    assert by_patient.low < by_patient.mean < by_patient.high


def test_patients_weigh_by_their_images():
    found = summarise([figures(0.0, "one image"), figures(1.0, "three"), figures(1.0, "three"), figures(1.0, "three")])
    assert found["ged"].mean == 0.75


def test_undefined_metrics_are_left_out_of_the_mean():
    nan = float("nan")
    some = summarise([figures(1.0, "a"), figures(nan, "a"), figures(2.0, "b"), figures(nan, "c")])["ged"]
    assert some.mean == 1.5
    assert (some.low, some.high) == (1.0, 2.0)  # bootstrap samples of c alone are undefined
    assert all(map(math.isnan, vars_of(summarise([figures(nan, "a"), figures(nan, "b")])["ged"])))


def vars_of(figure):
    return figure.mean, figure.low, figure.high


def test_ece_is_over_the_pixels_of_all_images():
    """Confidence 0.9 in 8 pixels that the rater marked and in 2 that no rater marked: one bin, |0.9 - 0.8|."""
    sure, unsure = np.full(8, 0.9, np.float32), np.full(2, 0.9, np.float32)
    first, second = Calibration.of(sure, np.ones((1, 8), bool)), Calibration.of(unsure, np.zeros((1, 2), bool))
    found = summarise([figures(0.0, "a", first), figures(0.0, "b", second)])["ece"]
    assert found.mean == pytest.approx(0.1)
    assert (found.low, found.high) == (pytest.approx(0.1), pytest.approx(0.9))  # a alone, b alone
