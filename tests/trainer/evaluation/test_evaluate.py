"""The figures of an evaluation: those of `metrics`, averaged over images, with intervals over patients."""

import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medseg_runtime.errors import ParameterError
from medseg_runtime.result import metrics
from medseg_runtime.result.metrics import Calibration, ReliabilityBin
from medseg_runtime.testing import toy_manifest, toy_segmenter
from medseg_trainer import cli
from medseg_trainer.data.layouts import Case, read_cases
from medseg_trainer.evaluation.evaluate import SampleSettings, _ranked, _shown, evaluate, split_named
from medseg_trainer.evaluation.reliability import CURVE, _place, render_reliability
from medseg_trainer.evaluation.statistics import TITLES, CaseFigures, measure, summarise
from medseg_trainer.models.graphs import TorchBackend
from medseg_trainer.models.manifest import manifest_of
from medseg_trainer.training.run_folder import RunFolder


def figures(value, group, calibration=None):
    nothing = Calibration.of(np.zeros((2, 2), np.float32), np.zeros((1, 2, 2), bool))
    return CaseFigures("a", group, {"ged": value}, calibration or nothing)


def make_case(raters=4, classes=1):
    rng = np.random.default_rng(0)
    masks = np.zeros((raters, 128, 128), np.uint8)
    for rater in range(raters):
        masks[rater, 50 + rater : 70, 52:75] = 1 + rater % classes
    return Case(name="a", group="p", image=rng.integers(0, 256, (128, 128), np.uint8), masks=masks)


# --- one image


def test_figures_are_those_of_the_metrics():
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


@pytest.mark.parametrize(("side", "small"), [(4, True), (5, False)])  # 16 and 25 pixels of 20
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


def test_nothing_beside_nothing_has_no_hd95_either():
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


# --- many images


def width(figure):
    return figure.high - figure.low


def test_intervals_are_drawn_over_patients_not_images():
    """Ten patients of forty like images each: four hundred images say no more than ten patients do."""
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


def test_what_does_not_exist_is_left_out_of_the_mean():
    nan = float("nan")
    some = summarise([figures(1.0, "a"), figures(nan, "a"), figures(2.0, "b"), figures(nan, "c")])["ged"]
    assert some.mean == 1.5
    assert (some.low, some.high) == (1.0, 2.0)  # draws of c alone count for nothing
    assert all(map(math.isnan, vars_of(summarise([figures(nan, "a"), figures(nan, "b")])["ged"])))


def vars_of(figure):
    return figure.mean, figure.low, figure.high


def test_ece_is_over_the_pixels_of_all_images():
    """Image 1: 0.9 where 1 of 1 raters marked, 8 pixels. Image 2: 0.9 where none did, 2 pixels. One bin: |0.9 - 0.8|."""
    sure, unsure = np.full(8, 0.9, np.float32), np.full(2, 0.9, np.float32)
    first, second = Calibration.of(sure, np.ones((1, 8), bool)), Calibration.of(unsure, np.zeros((1, 2), bool))
    found = summarise([figures(0.0, "a", first), figures(0.0, "b", second)])["ece"]
    assert found.mean == pytest.approx(0.1)
    assert (found.low, found.high) == (pytest.approx(0.1), pytest.approx(0.9))  # a alone, b alone


def test_every_image_starts_from_noise_of_its_own():
    case = make_case()
    (_, first), (_, second) = SampleSettings(samples=2, seed=3).segment_all(toy_segmenter(), [case, case])
    assert (first.seed, second.seed) == (3, 1003)
    assert not np.array_equal(first.mean_probability, second.mean_probability)


# --- the whole


def test_an_evaluation_says_how_it_was_made(phantom_zips):
    segmenter = toy_segmenter()
    report = evaluate(segmenter, phantom_zips, "val", samples=4, steps=2, seed=9, images=None)
    cases = list(read_cases(phantom_zips, "val", 1))
    assert (report.images, report.groups) == (len(cases), len({case.group for case in cases}))
    assert (report.split, report.samples, report.steps, report.seed) == ("val", 4, 2, 9)
    assert (report.model, report.bundle_sha256, report.sampler) == ("toy", "0" * 64, "euler")
    assert report.command == (
        f"medseg-train evaluate BUNDLE --data DATA --split val --samples 4 --steps 2 --seed 9 --backend {segmenter.backend.name}"
    )
    assert (report.grouped_by, set(report.figures)) == ("patients", set(TITLES))
    expected = [
        measure(case, segmenter(case.image, 4, 2, 9 + 1000 * k))[0].values["ged"] for k, case in enumerate(cases)
    ]
    assert report.figures["ged"].mean == pytest.approx(np.mean(expected))


def test_some_images_are_evenly_spaced_ones(phantom_zips):
    whole = [case.name for case in read_cases(phantom_zips, "val", 1)]
    segmenter = toy_segmenter()
    report = evaluate(segmenter, phantom_zips, "val", samples=2, steps=1, seed=0, images=3)
    assert report.images == 3 < len(whole)
    assert report.command.endswith("--images 3")


def test_a_run_is_measured_by_the_same_lines_twice_with_the_same_figures(micro_run, phantom_zips):
    run = RunFolder(micro_run)
    segmenters = [TorchBackend(run.networks()) for _ in range(2)]
    from medseg_runtime.inference.segmenter import Segmenter

    reports = [
        evaluate(
            Segmenter(manifest_of(run.config()), backend), phantom_zips, "val", samples=3, steps=None, seed=0, images=3
        )
        for backend in segmenters
    ]
    assert reports[0].figures == reports[1].figures
    assert reports[0].steps == run.config().sampling.steps
    assert reports[0].backend.startswith("torch ")


def test_json_has_null_for_what_does_not_exist(phantom_zips):
    report = evaluate(toy_segmenter(), phantom_zips, "val", samples=1, steps=1, seed=0, images=2)
    content = json.loads(report.to_json(), parse_constant=pytest.fail)
    assert content["figures"]["sample_diversity"] == {"mean": None, "low": None, "high": None}
    assert content["figures"]["ged"]["mean"] == round(report.figures["ged"].mean, 5)


def test_evaluate_writes_its_figures_into_the_run(micro_run, phantom_zips, tmp_path):
    import shutil

    from medseg_trainer.cli import evaluate as command

    run = shutil.copytree(micro_run, tmp_path / "run")
    command(Path(run), phantom_zips, samples=2, images=2)
    written = json.loads((run / "evaluation.json").read_text())
    assert (written["images"], written["kept"]) == (2, RunFolder(run).kept())
    assert written["command"].startswith("medseg-train evaluate RUN --data DATA --split val")
    assert sum(point["pixels"] for point in written["reliability"]) > 0
    with Image.open(run / "evaluation.png") as sheet:
        assert sheet.width > sheet.height / 3 > 200


def test_ged_of_a_hundred_is_drawn_when_asked_for(phantom_zips):
    settings = {"samples": 2, "steps": 1, "seed": 0, "images": 2}
    with_it, without = (
        evaluate(toy_segmenter(), phantom_zips, "val", **settings, ged_100=asked) for asked in (True, False)
    )
    assert with_it.command == without.command + " --ged100"
    assert 0.0 < with_it.figures["ged_100"].mean < with_it.figures["ged"].mean
    assert math.isnan(without.figures["ged_100"].mean)
    assert with_it.figures["ged"] == without.figures["ged"]


def test_the_sheet_has_the_best_the_median_and_the_worst_images_once_each():
    geds = [0.5, 0.1, 0.9, 0.2, 0.8, 0.3, 0.7, 0.4, 0.6, 0.0, 1.0]
    assert dict(_ranked(geds)) == {
        9: "best: GED 0.000",
        1: "best: GED 0.100",
        3: "best: GED 0.200",
        7: "median: GED 0.400",
        0: "median: GED 0.500",
        8: "median: GED 0.600",
        4: "worst: GED 0.800",
        2: "worst: GED 0.900",
        10: "worst: GED 1.000",
    }
    assert dict(_ranked([0.2, 0.1])) == {1: "best: GED 0.100", 0: "best: GED 0.200"}


def test_the_sheet_draws_what_was_measured(phantom_zips):
    """The images on the sheet are segmented once more: with the noise that they were measured with."""
    segmenter = toy_segmenter()
    cases = read_cases(phantom_zips, "val", 1)
    settings = SampleSettings(samples=2, seed=5)
    measured = [result.masks for _, result in settings.segment_all(segmenter, cases)]
    for caption, case, result in _shown(segmenter, cases, settings, [(2, "b"), (0, "a")]):
        number = {"a": 0, "b": 2}[caption]
        assert case.name == cases[number].name
        np.testing.assert_array_equal(result.masks, measured[number])


def test_the_reliability_diagram_is_on_the_line_where_confidence_is_right():
    right = render_reliability((ReliabilityBin(10, 0.5, 0.5),))
    wrong = render_reliability((ReliabilityBin(10, 0.5, 0.0),))
    x, y = map(round, _place(0.5, 0.5))
    assert (right.getpixel((x, y)), wrong.getpixel((x, y)) == CURVE) == (CURVE, False)
    assert wrong.getpixel(tuple(map(round, _place(0.5, 0.0)))) == CURVE


def test_a_split_has_one_of_three_names():
    assert split_named("val") == "val"
    with pytest.raises(ParameterError, match=r"no split 'valid'. Use train, val or test"):
        split_named("valid")


@pytest.mark.parametrize("name", ["absent/figures.json", "figures.png", "."])
def test_a_file_that_cannot_be_written_is_said_before_anything_is_measured(
    name, micro_run, phantom_zips, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("medseg_trainer.evaluation.evaluate.evaluate", lambda *_, **__: pytest.fail("it measured"))
    out = tmp_path / name
    command = ["medseg-train", "evaluate", micro_run, "--data", phantom_zips, "--out", out]
    monkeypatch.setattr(sys, "argv", list(map(str, command)))
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 1
    assert capsys.readouterr().err.endswith("Give --out a .json file in a folder that you may write to.\n")
