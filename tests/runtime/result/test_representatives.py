"""Representatives: the choice against all choices, the shares against the conditions of an optimum."""

import json
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from medseg_runtime.commands import infer as command
from medseg_runtime.errors import ParameterError
from medseg_runtime.result.metrics import generalized_energy_distance
from medseg_runtime.result.representatives import representatives, shares
from medseg_runtime.result.uncertainty import pairwise_iou
from medseg_runtime.testing import toy_manifest, toy_segmenter


def blobs(seed, count=14, kinds=3):
    """Return masks (count, 40) of a few kinds with a few flipped pixels each, some of them empty."""
    random = np.random.default_rng(seed)
    prototypes = random.random((kinds, 40)) < random.uniform(0.1, 0.6, (kinds, 1))
    masks = prototypes[random.integers(kinds, size=count)] ^ (random.random((count, 40)) < 0.05)
    masks[random.random(count) < 0.2] = False
    return masks


def distance(masks, chosen, weights):
    """Return the GED between the weighted masks chosen and all of them, by its definition."""
    return generalized_energy_distance(masks[list(chosen)], masks, np.asarray(weights))


def best_shares(masks, chosen):
    kernel = pairwise_iou(masks, masks)
    return shares(kernel[np.ix_(chosen, chosen)], kernel.mean(axis=1)[list(chosen)])


@given(st.integers(0, 10**6), st.integers(2, 10))
def test_shares_meet_the_conditions_of_an_optimum(seed, size):
    """Karush, Kuhn and Tucker: on the simplex, and no mask with a share has a steeper gradient than one without."""
    kernel = pairwise_iou(masks := blobs(seed), masks)
    mean = kernel.mean(axis=1)
    weights = shares(kernel[:size, :size], mean[:size])
    assert weights.min() >= 0.0
    assert weights.sum() == pytest.approx(1.0, abs=1e-9)
    gradient = kernel[:size, :size] @ weights - mean[:size]
    level = weights @ gradient
    assert gradient.min() >= level - 1e-6
    np.testing.assert_allclose(gradient[weights > 1e-9], level, atol=1e-6)


def test_shares_by_hand():
    # Two disjoint masks, one drawn three times of four: K = I, z = (3/4, 1/4), and the minimum is z itself.
    np.testing.assert_allclose(shares(np.eye(2), np.array([0.75, 0.25])), [0.75, 0.25], atol=1e-8)
    # z = (1, -1/2) would want a negative share.
    np.testing.assert_allclose(shares(np.eye(2), np.array([1.0, -0.5])), [1.0, 0.0], atol=1e-8)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_choice_is_close_to_the_best_of_all_choices(seed, count):
    masks = blobs(seed)
    found = representatives(masks, count)
    every = [distance(masks, c, best_shares(masks, c)) for c in combinations(range(len(masks)), count)]
    assert distance(masks, found.samples, found.shares) <= np.quantile(every, 0.05) + 1e-9


def test_masks_that_repeat_are_represented_exactly():
    kinds = np.array([[1, 1, 0, 0], [0, 1, 1, 1], [0, 0, 0, 0]], bool)
    drawn = np.array([0, 0, 1, 2, 0, 1, 0, 2, 0, 0])  # six, two and two of ten
    found = representatives(kinds[drawn], 3)
    chosen, weights = found.samples, found.shares
    assert drawn[chosen[0]] == 0
    assert sorted(drawn[chosen]) == [0, 1, 2]
    np.testing.assert_allclose(weights, [0.6, 0.2, 0.2], atol=1e-6)


def test_there_are_no_more_representatives_than_different_masks():
    one = representatives(np.zeros((8, 5, 5), bool), 4)
    assert (len(one), one.shares.tolist()) == (1, [1.0])
    two = np.zeros((8, 5, 5), bool)
    two[3:, 2] = True
    assert len(representatives(two, 4)) == 2


def test_weights_fall_and_sum_to_one():
    found = representatives(blobs(1, count=64, kinds=8), 8)
    chosen, weights = found.samples, found.shares
    assert len(set(chosen.tolist())) == len(chosen)
    assert (np.diff(weights) <= 0.0).all()
    assert weights.min() > 0.0
    assert weights.sum() == pytest.approx(1.0)


@pytest.mark.parametrize("count", [2, 4, 8])
def test_representatives_are_better_than_the_same_number_of_plain_samples(count):
    masks = blobs(2, count=64, kinds=8)
    plain = np.mean(
        [distance(masks, range(s, s + count), np.full(count, 1 / count)) for s in range(0, 64 - count, count)]
    )
    found = representatives(masks, count)
    assert distance(masks, found.samples, found.shares) < 0.5 * plain


@pytest.mark.parametrize("count", [0, 15])
def test_a_count_out_of_range_is_refused(count):
    with pytest.raises(ParameterError, match=rf"{count} representatives of 14 masks is out of range. Use 1 to 14"):
        representatives(blobs(0), count)


# --- of a segmentation, and in a result folder

PIXELS = np.random.default_rng(0).integers(0, 255, (150, 160)).astype(np.uint8)


@pytest.mark.parametrize("classes", [("nodule",), ("core", "rim")])
def test_a_segmentation_chooses_among_its_own_masks(classes):
    result = toy_segmenter(toy_manifest(classes=classes))(
        PIXELS, samples=12, center=(140, 20)
    )  # the field leaves the image
    found, expected = result.representatives(3), representatives(result.masks, 3)
    np.testing.assert_array_equal(found.samples, expected.samples)
    np.testing.assert_allclose(found.shares, expected.shares)


@pytest.fixture
def image(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "slice.png")
    return tmp_path / "slice.png"


def infer(monkeypatch, *arguments):
    monkeypatch.setattr("medseg_runtime.inference.segmenter.Segmenter.load", lambda *_, **__: toy_segmenter())
    return CliRunner().invoke(command.app, list(map(str, arguments)))


def test_the_command_writes_them_with_their_shares(image, tmp_path, monkeypatch):
    done = infer(monkeypatch, image, "--samples", 12, "--representatives", 3, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    record = json.loads((tmp_path / "out" / "result.json").read_text())
    found = toy_segmenter()(PIXELS, samples=12).representatives(3)
    assert [entry["sample"] for entry in record["representatives"]] == found.samples.tolist()
    assert [entry["weight"] for entry in record["representatives"]] == pytest.approx(found.shares, abs=1e-6)
    assert "representatives.png" in record["outputs"]
    with (
        Image.open(tmp_path / "out" / "representatives.png") as few,
        Image.open(tmp_path / "out" / "samples.png") as all_,
    ):
        assert few.height < all_.height
    again = infer(monkeypatch, image, "--samples", 12, "--out", tmp_path / "out", "--force")
    assert again.exit_code == 0, again.output
    assert not (tmp_path / "out" / "representatives.png").exists()


def test_auto_may_draw_fewer_samples_than_representatives_asked_for(image, tmp_path, monkeypatch):
    done = infer(monkeypatch, image, "--samples", "auto", "--representatives", 64, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    record = json.loads((tmp_path / "out" / "result.json").read_text())
    assert sum(entry["weight"] for entry in record["representatives"]) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("count", [0, 13])
def test_the_command_refuses_a_count_out_of_range_before_anything_is_done(count, image, tmp_path, monkeypatch):
    done = infer(monkeypatch, image, "--samples", 12, "--representatives", count, "--out", tmp_path / "out")
    assert done.exit_code == 1
    assert f"--representatives {count} of 12 samples is out of range. Use 1 to 12, or more --samples." in done.output
    assert not (tmp_path / "out").exists()


def test_all_are_every_sample_in_its_order(image, tmp_path, monkeypatch):
    done = infer(monkeypatch, image, "--samples", 12, "--representatives", "all", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    record = json.loads((tmp_path / "out" / "result.json").read_text())
    assert [entry["sample"] for entry in record["representatives"]] == list(range(12))
    assert {entry["weight"] for entry in record["representatives"]} == {0.083333}


def test_a_number_of_representatives_in_words_is_refused(image, tmp_path, monkeypatch):
    done = infer(monkeypatch, image, "--representatives", "four", "--out", tmp_path / "out")
    assert done.exit_code == 1
    assert "'four' is not a number of representatives. Give --representatives 4, for example, or all." in done.output
