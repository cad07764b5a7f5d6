"""An evaluation of a split, and the sheet that shows it."""

import json
import math

import numpy as np
import pytest

from medseg_runtime.errors import ParameterError
from medseg_runtime.testing import toy_segmenter
from medseg_trainer.data.layouts import read_cases
from medseg_trainer.evaluation.evaluate import SampleSettings, _ranked, _shown, evaluate, split_named
from medseg_trainer.evaluation.statistics import TITLES, measure
from medseg_trainer.models.graphs import TorchBackend
from medseg_trainer.models.manifest import manifest_of
from medseg_trainer.training.run_folder import RunFolder
from tests.trainer.evaluation.phantom_case import make_case


def test_each_image_has_its_own_noise():
    case = make_case()
    (_, first), (_, second) = SampleSettings(samples=2, seed=3).segment_all(toy_segmenter(), [case, case])
    assert (first.request.seed, second.request.seed) == (3, 1003)
    assert not np.array_equal(first.mean_probability, second.mean_probability)


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
        measure(case, segmenter(case.image, samples=4, steps=2, seed=9 + 1000 * k))[0].values["ged"]
        for k, case in enumerate(cases)
    ]
    assert report.figures["ged"].mean == pytest.approx(np.mean(expected))


def test_some_images_are_evenly_spaced_ones(phantom_zips):
    whole = [case.name for case in read_cases(phantom_zips, "val", 1)]
    segmenter = toy_segmenter()
    report = evaluate(segmenter, phantom_zips, "val", samples=2, steps=1, seed=0, images=3)
    assert report.images == 3 < len(whole)
    assert report.command.endswith("--images 3")


def test_evaluating_a_run_twice_gives_the_same_metrics(micro_run, phantom_zips):
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


def test_json_has_null_for_undefined_metrics(phantom_zips):
    report = evaluate(toy_segmenter(), phantom_zips, "val", samples=1, steps=1, seed=0, images=2)
    content = json.loads(report.to_json(), parse_constant=pytest.fail)
    assert content["figures"]["sample_diversity"] == {"mean": None, "low": None, "high": None}
    assert content["figures"]["ged"]["mean"] == round(report.figures["ged"].mean, 5)


def test_ged_of_a_hundred_samples_is_measured_when_asked_for(phantom_zips):
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


def test_the_sheet_shows_what_was_measured(phantom_zips):
    """The images on the sheet are segmented again, with the noise that they were measured with."""
    segmenter = toy_segmenter()
    cases = read_cases(phantom_zips, "val", 1)
    settings = SampleSettings(samples=2, seed=5)
    measured = [result.masks for _, result in settings.segment_all(segmenter, cases)]
    for caption, case, result in _shown(segmenter, cases, settings, [(2, "b"), (0, "a")]):
        number = {"a": 0, "b": 2}[caption]
        assert case.name == cases[number].name
        np.testing.assert_array_equal(result.masks, measured[number])


def test_a_split_has_one_of_three_names():
    assert split_named("val") == "val"
    with pytest.raises(ParameterError, match=r"no split 'valid'. Use train, val or test"):
        split_named("valid")
