"""The noise of a sample: golden numbers, laws, and SciPy's Sobol sequence as the judge of ours."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest, norm, qmc

from medseg_runtime.errors import ParameterError
from medseg_runtime.model.noise import MAX_STRATIFIED, NoiseLaw, SampleNoise, sobol_bits, sobol_normal

STRATIFIED = NoiseLaw(stratified=0.5)
SHAPE = (4, 16, 16)
LATER = [0.06645450, 0.40218195]


@pytest.mark.parametrize(
    ("seed", "index", "antithetic", "golden"),
    [
        (0, 0, True, [0.48020342, -0.52447486, -0.91842191, -0.33953395]),
        (0, 0, False, [0.48020342, -0.52447486, -0.91842191, -0.33953395]),
        (7, 3, True, [-0.02361451, 0.75763792, 1.16065931, 0.16676320]),
        (7, 3, False, [0.11409990, 0.60270703, 0.01436578, 0.03757177]),
    ],
)
def test_the_stream_never_changes(seed, index, antithetic, golden):
    noise = SampleNoise(seed, index, NoiseLaw(antithetic=antithetic)).start((1, 2, 2))
    assert noise.dtype == np.float32
    np.testing.assert_allclose(noise.ravel(), golden, rtol=1e-6)


def test_the_later_numbers_never_change():
    assert SampleNoise(7, 3, NoiseLaw()).draw((2,)).tolist() == pytest.approx(LATER, rel=1e-6)
    assert SampleNoise(7, 7, NoiseLaw(antithetic=True)).draw((2,)).tolist() == pytest.approx(
        [-x for x in LATER], rel=1e-6
    )


def test_what_a_sample_starts_from_is_no_one_s_to_change():
    noise = SampleNoise(0, 0, STRATIFIED).start(SHAPE)
    with pytest.raises(ValueError, match="read-only"):
        noise += 1
    assert np.array_equal(noise, SampleNoise(0, 0, STRATIFIED).start(SHAPE))


@given(st.integers(0, 2**64), st.integers(0, 1000))
def test_antithetic_neighbours_are_exact_negatives_in_every_draw(seed, pair):
    even, odd = (SampleNoise(seed, 2 * pair + k, NoiseLaw(antithetic=True)) for k in (0, 1))
    assert (even.start((1, 2, 3)) == -odd.start((1, 2, 3))).all()
    for _ in range(3):
        assert (even.draw((5,)) == -odd.draw((5,))).all()


@pytest.mark.parametrize("law", [NoiseLaw(), NoiseLaw(antithetic=True), STRATIFIED])
def test_samples_seeds_and_draws_differ(law):
    draws = [
        noise.draw((2, 3)).tobytes()
        for seed in range(3)
        for noise in (SampleNoise(seed, k, law) for k in range(6))
        for _ in range(2)
    ]
    assert len(set(draws)) == 3 * 6 * 2


def test_a_stream_does_not_depend_on_how_it_is_cut():
    pieces, whole = (SampleNoise(5, 2, NoiseLaw()) for _ in range(2))
    drawn = [pieces.draw(shape).ravel() for shape in ((3,), (2, 2), (1,))]
    assert np.concatenate(drawn).tolist() == whole.draw((8,)).tolist()


def test_noise_is_standard_normal_and_independent_between_samples():
    draws = np.stack([SampleNoise(0, k, NoiseLaw()).draw((20_000,)) for k in range(8)])
    assert draws.mean() == pytest.approx(0.0, abs=0.01)  # deviation 1 / sqrt(160,000) = 0.0025
    assert draws.var() == pytest.approx(1.0, abs=0.015)
    assert np.mean(np.abs(draws) > 1.96) == pytest.approx(0.05, abs=0.003)
    off_diagonal = np.corrcoef(draws)[~np.eye(8, dtype=bool)]
    assert np.abs(off_diagonal).max() < 0.035  # deviation 0.007


def test_the_unshifted_sequence_is_scipys():
    ours = np.stack([sobol_bits(index, MAX_STRATIFIED) for index in range(256)]) / 2.0**32
    theirs = qmc.Sobol(MAX_STRATIFIED, scramble=False, bits=32).random(256)
    gray = [index ^ (index >> 1) for index in range(256)]  # SciPy goes in the order of Antonov and Saleev
    assert np.array_equal(ours[gray], theirs)


@given(st.integers(0, 2**64), st.integers(0, 60))
def test_every_sixteen_samples_have_one_in_each_sixteenth(seed, block):
    points = np.stack([sobol_normal(seed, 16 * block + k, 4) for k in range(16)])
    strata = np.sort((norm.cdf(points) * 16).astype(int), axis=0)
    assert (strata == np.arange(16)[:, None]).all()


@pytest.mark.parametrize("index", [0, 1, 13])
def test_a_stratified_sample_by_itself_is_standard_normal(index):
    points = np.concatenate([sobol_normal(seed, index, 4) for seed in range(500)])
    assert kstest(points, "norm").pvalue > 1e-3
    noise = np.stack([SampleNoise(seed, index, STRATIFIED).start(SHAPE) for seed in range(500)])
    assert noise.dtype == np.float32
    assert noise.mean() == pytest.approx(0.0, abs=0.05)
    assert noise.var() == pytest.approx(1.0, abs=0.05)


def test_half_of_the_variance_is_common_to_a_channel():
    noise = np.stack([SampleNoise(seed, 3, STRATIFIED).start(SHAPE) for seed in range(500)])
    assert noise.mean(axis=(2, 3)).var() == pytest.approx(0.5, abs=0.05)


def test_later_draws_share_nothing():
    noise = SampleNoise(0, 1, STRATIFIED)
    noise.start(SHAPE)
    assert noise.draw(SHAPE).mean(axis=(1, 2)).std() < 0.1


@pytest.mark.parametrize("fields", [{"stratified": 1.0}, {"stratified": -0.1}, {"stratified": 0.5, "antithetic": True}])
def test_laws_that_do_not_exist_are_refused(fields):
    with pytest.raises(ParameterError, match="only one of the two"):
        NoiseLaw(**fields)


def test_more_channels_than_directions_are_refused():
    with pytest.raises(ParameterError, match="at most 8 channels"):
        SampleNoise(0, 0, STRATIFIED).start((9, 4, 4))
