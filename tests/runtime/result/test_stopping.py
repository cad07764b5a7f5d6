"""`--samples auto`: the rule by hand, and what it makes a segmenter draw."""

import math

import numpy as np
import pytest

from medseg_runtime import ParameterError, Segmenter
from medseg_runtime.result.stopping import FIRST, NEXT, TOLERANCE, stages, standard_error
from medseg_runtime.testing import FakeBackend, toy_manifest, toy_segmenter

IMAGE = np.random.default_rng(0).integers(0, 255, (97, 120), dtype=np.uint8)


class Fickle(FakeBackend):
    """Draws nothing at all in every second sample, and everything in the others."""

    def run(self, graph, feeds):
        results = super().run(graph, feeds)
        if graph == "decoder":
            results[0][::2], results[0][1::2] = -9.0, 9.0
        return results


class Steady(FakeBackend):
    """Draws the same in every sample."""

    def run(self, graph, feeds):
        results = super().run(graph, feeds)
        if graph == "decoder":
            results[0][:] = results[0][:1]
        return results


def segmenter_on(backend, **options):
    manifest = toy_manifest(geometry="resize")
    return Segmenter(manifest, backend(manifest), **options)


def test_the_standard_error_by_hand():
    # k = 1 and 3 of 4: 1 x 3 / (16 x 3) each; k = 0 and 4: nothing. The mean of four pixels is 1/32.
    assert standard_error(np.array([0, 1, 3, 4]), 4) == pytest.approx(math.sqrt(1 / 32))
    assert standard_error(np.zeros((2, 3), int), 8) == 0.0
    assert math.isnan(standard_error(np.array([1]), 1))


def test_the_standard_error_is_what_the_draws_scatter_by():
    rng = np.random.default_rng(0)
    share, samples = rng.random(20_000), 12
    counts = rng.binomial(samples, share)
    scatter = math.sqrt(np.mean((counts / samples - share) ** 2))
    assert standard_error(counts, samples) == pytest.approx(scatter, rel=0.02)


@pytest.mark.parametrize("limit", [2, 8, FIRST, FIRST + 2, 64])
def test_the_looks_come_after_even_numbers_up_to_the_limit(limit):
    drawn = list(stages(limit))
    assert [k for stage in drawn for k in stage] == list(range(limit))
    assert all(stage.stop % 2 == 0 for stage in drawn)
    assert {len(stage) for stage in drawn[1:-1]} <= {NEXT}


def test_samples_that_agree_stop_at_the_first_look():
    result = segmenter_on(Steady)(IMAGE, samples="auto")
    assert (result.samples, result.settled, result.standard_error) == (FIRST, True, 0.0)
    assert result.masks.shape == (FIRST, *IMAGE.shape)


def test_samples_that_never_agree_go_to_the_limit():
    result = segmenter_on(Fickle)(IMAGE, samples="auto", max_samples=22)
    assert (result.samples, result.settled, len(result.masks)) == (22, False, 22)
    assert result.standard_error == pytest.approx(math.sqrt(1 / 4 / 21))


@pytest.mark.parametrize("max_batch", [64, 3])
def test_what_is_drawn_is_the_beginning_of_a_longer_run(max_batch):
    segmenter = toy_segmenter()
    segmenter.max_batch = max_batch
    found = segmenter(IMAGE, samples="auto", seed=4)
    assert FIRST < found.samples < 64
    assert found.settled
    fixed = toy_segmenter()(IMAGE, samples=found.samples, seed=4)
    assert (found.masks == fixed.masks).all()
    assert (found.mean_probability == fixed.mean_probability).all()
    assert fixed.settled is None
    before = toy_segmenter()(IMAGE, samples=found.samples - NEXT, seed=4)
    assert fixed.standard_error <= TOLERANCE < before.standard_error


@pytest.mark.parametrize("limit", [0, -2, 7])
def test_a_limit_that_is_not_even_is_refused(limit):
    with pytest.raises(ParameterError, match="Use an even number"):
        toy_segmenter()(IMAGE, samples="auto", max_samples=limit)


def test_another_word_is_refused():
    with pytest.raises(ParameterError, match="or auto"):
        toy_segmenter()(IMAGE, samples="many")
