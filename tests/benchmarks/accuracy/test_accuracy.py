"""The accuracy benchmarks at toy size: each command writes a record from which its page is rendered."""

import sys

import numpy as np
import pytest

from benchmarks.accuracy import by_steps, identity, representatives, samples_auto
from benchmarks.accuracy.stopping_rules import FIXED, REFERENCE, TOLERANCES, Prefixes, all_rules, ratio_of_means
from medseg_runtime.result.stopping import FIRST, MAX_SAMPLES

READERS = {
    by_steps: lambda path: by_steps.page(by_steps.Accuracy.read(path)),
    identity: lambda path: identity.page(identity.IdentityOfSamples.read(path)),
    representatives: lambda path: representatives.page(representatives.Comparison.read(path)),
    samples_auto: lambda path: samples_auto.page(samples_auto.SamplesAuto.read(path)),
}


@pytest.mark.parametrize(
    ("module", "kind", "options", "texts"),
    [
        (by_steps, "accuracy", ["--samples", "2", "--steps", "1", "2"], ["| bundle | 1 |", "| bundle | 2 |", "--samples 2 --steps 1 2"]),
        (identity, "identity", ["--samples", "4"], ["pairs of neighbouring slices", "fresh noise in every slice"]),
        (representatives, "representatives", ["--steps", "1"], ["| ged", "K = 16", "image by image"][1:]),
        (samples_auto, "samples_auto", [], ["| N = 32 |", "the default", "1.000 (1.000 to 1.000)"]),
    ],
    ids=["by_steps", "identity", "representatives", "samples_auto"],
)  # fmt: skip
def test_a_command_writes_record_page_and_plot(
    module, kind, options, texts, machine, phantom_zips, tmp_path, monkeypatch
):
    monkeypatch.setattr(module, "inspect_machine", lambda: machine)
    command = ["x", "--data", str(phantom_zips), "--images", "2", "--out", str(tmp_path), *options]
    monkeypatch.setattr(sys, "argv", command)
    module.main()
    (path,) = tmp_path.glob("*.json")
    text = path.with_suffix(".md").read_text()
    assert path.name.startswith(f"{kind}_lidc-nodule_2")
    assert READERS[module](path).markdown() == text
    assert path.with_suffix(".png").stat().st_size > 10_000
    assert f"python -m {module.__name__} --data DATA --images 2" in text
    assert str(tmp_path) not in path.read_text()
    for part in ("2 images of", "split `val`", "A processor", "- Seed: 0", *texts):
        assert part in text


def test_neighbours_follow_each_other_in_one_sequence():
    assert identity.neighbours("p/nodule-0/slice-9", "p/nodule-0/slice-10") == "p/nodule-0"
    assert identity.neighbours("p/nodule-0/slice-9", "p/nodule-0/slice-11") is None
    assert identity.neighbours("p/nodule-0/slice-0", "p/nodule-1/slice-1") is None


def test_representatives_of_equal_masks_gain_nothing():
    from medseg_runtime.result.metrics import Overlaps

    masks = np.zeros((64, 8, 8), bool)
    masks[:, 2:4, 2:4] = True
    values = representatives.figures_of_image(masks, Overlaps.of(masks, masks[:4]))
    assert values["ged all"] == pytest.approx(0.0)
    for count in representatives.COUNTS:
        assert values[f"ged gain {count}"] == pytest.approx(0.0)
        assert values[f"hm_iou representatives {count}"] == pytest.approx(1.0)


def test_samples_that_agree_stop_at_the_first_check():
    masks = np.zeros((MAX_SAMPLES, 8, 8), bool)
    masks[:, 2:4, 2:4] = True
    image = Prefixes.of("patient", masks, masks[:4])
    assert image.stops_at(TOLERANCES[-1]) == FIRST
    masks[1::2] = False
    assert Prefixes.of("patient", masks, masks[:4]).stops_at(0.0) == MAX_SAMPLES


def test_rules_are_compared_with_the_reference_on_the_same_images():
    rng = np.random.default_rng(0)
    images = [
        Prefixes.of(f"p{k % 2}", rng.random((MAX_SAMPLES, 6, 6)) > 0.5, rng.random((4, 6, 6)) > 0.5) for k in range(4)
    ]
    rules = {rule.name: rule for rule in all_rules(images)}
    assert len(rules) == len(FIXED) + len(TOLERANCES)
    assert sum(rule.default for rule in rules.values()) == 1
    assert rules[f"N = {REFERENCE}"].brier_ratio.mean == 1.0
    assert rules["N = 4"].drawn_mean == 4.0


def test_a_ratio_of_means_is_of_the_same_patients():
    values, reference = np.array([2.0, 4.0, 6.0]), np.array([1.0, 2.0, 3.0])
    ratio = ratio_of_means(values, reference, ["a", "b", "b"])
    assert (ratio.low, ratio.mean, ratio.high) == (2.0, 2.0, 2.0)
