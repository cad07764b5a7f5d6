"""The noise that samples start from. It depends on the seed and the sample's number, not on batch, backend or other samples.

independent   every sample by itself
antithetic    sample 2j + 1 has the negated noise of sample 2j
stratified    a part of the variance is one number per channel and sample, taken from a Sobol sequence: sixteen samples cover this
              part, which decides the outline most, more evenly than sixteen independent ones
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from medseg_runtime.errors import ParameterError

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
UInt32 = npt.NDArray[np.uint32]

BITS = 32
NORMAL = NormalDist()
SOBOL = (
    (1, 0, (1,)),
    (2, 1, (1, 3)),
    (3, 1, (1, 3, 1)),
    (3, 2, (1, 1, 1)),
    (4, 1, (1, 1, 3, 3)),
    (4, 4, (1, 3, 5, 13)),
    (5, 2, (1, 1, 5, 5, 17)),
)
"""Degree, inner coefficients and initial numbers of the primitive polynomials of dimensions 2 to 8 (Joe & Kuo 2008, new-joe-kuo-6)."""
MAX_STRATIFIED = 1 + len(SOBOL)


@dataclass(frozen=True, kw_only=True, slots=True)
class NoiseLaw:
    """The joint distribution of the starting noise of one image's samples. Each sample by itself is standard normal."""

    antithetic: bool = False
    """Sample 2j + 1 starts from the negated noise of sample 2j."""
    stratified: float = 0.0
    """Share of the variance, in [0, 1), that is one number per channel and sample; see `sobol_normal`."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.stratified < 1.0 or (self.antithetic and self.stratified):
            raise ParameterError(
                f"stratified {self.stratified} with antithetic {self.antithetic} is not a valid noise law",
                "Use a share in [0, 1), and only one of the two.",
            )


class SampleNoise:
    """The random numbers of one sample, from (seed, index) alone.

    So sample k is the same for every number of samples, batch split and backend. NumPy guarantees that these streams never change:
    MT19937, seeded by SeedSequence, read by `RandomState`.
    """

    def __init__(self, seed: int, index: int, law: NoiseLaw) -> None:
        self._seed, self._index, self._law = seed, index, law
        self._later: np.random.RandomState | None = None

    def start(self, shape: tuple[int, int, int]) -> Float32:
        """Return the noise that the sample starts from: (Z, h, w) float32, read-only."""
        return _start(self._seed, self._index, self._law, shape)

    def draw(self, shape: tuple[int, ...]) -> Float32:
        """Return the standard normal float32 array that the next step of this sample adds."""
        stream, negated = _stream(self._index, self._law)
        if self._later is None:
            self._later = _generator(self._seed, stream, 1)
        values = self._later.standard_normal(shape).astype(np.float32)
        return -values if negated else values


@lru_cache(
    maxsize=256
)  # all images of a folder start from the same noise; seeding a stream costs more than drawing from it
def _start(seed: int, index: int, law: NoiseLaw, shape: tuple[int, int, int]) -> Float32:
    stream, negated = _stream(index, law)
    noise = _generator(seed, stream).standard_normal(shape).astype(np.float32)
    if law.stratified:
        common = sobol_normal(seed, index, shape[0]).astype(np.float32)[:, None, None]
        share = np.float32(law.stratified)
        noise = np.sqrt(1 - share) * noise + np.sqrt(share) * common
    noise = -noise if negated else noise
    noise.setflags(write=False)
    return noise


def _stream(index: int, law: NoiseLaw) -> tuple[int, bool]:
    """Return the number of a sample's stream, and whether its noise is negated."""
    return (index // 2, bool(index % 2)) if law.antithetic else (index, False)


def _generator(seed: int, *key: int) -> np.random.RandomState:
    return np.random.RandomState(np.random.MT19937(np.random.SeedSequence(entropy=seed, spawn_key=key)))


def sobol_normal(seed: int, index: int, channels: int) -> Float64:
    """Return point `index` of a Sobol sequence with a random digital shift, mapped to standard normal numbers, (channels,).

    Over all seeds every point is uniform, so each sample stays standard normal. For one seed, each aligned block of 2^m points has
    one point in each of 2^m equal intervals, in every channel (Sobol 1967; the shift: Owen 2003, section 6).

    Raises:
        ParameterError: more than `MAX_STRATIFIED` channels.
    """
    uniform = ((sobol_bits(index, channels) ^ _shift(seed, channels)) + 0.5) / 2.0**BITS
    return np.array([NORMAL.inv_cdf(u) for u in uniform.tolist()])


@lru_cache(maxsize=64)
def _shift(seed: int, channels: int) -> UInt32:
    """Return the random digital shift that the samples of one seed share."""
    sequence = np.random.SeedSequence(entropy=seed, spawn_key=(0, 0))
    return np.asarray(sequence.generate_state(channels, np.uint32), np.uint32)


def sobol_bits(index: int, channels: int) -> UInt32:
    """Return point `index` of the unshifted sequence as 32-bit fractions, in natural order, (channels,).

    Raises:
        ParameterError: more than `MAX_STRATIFIED` channels.
    """
    if channels > MAX_STRATIFIED:
        raise ParameterError(
            f"noise of {channels} channels cannot be stratified", f"Use a latent of at most {MAX_STRATIFIED} channels."
        )
    chosen = [bit for bit in range(index.bit_length()) if index >> bit & 1]
    return np.asarray(np.bitwise_xor.reduce(_DIRECTIONS[:channels, chosen], axis=1, initial=0), np.uint32)


def _directions(degree: int, coefficients: int, initial: tuple[int, ...]) -> UInt32:
    """Return the 32 direction numbers of one dimension (Bratley & Fox 1988, Eq. 2.4)."""
    numbers = list(initial)
    for k in range(degree, BITS):
        new = numbers[k - degree] ^ (numbers[k - degree] << degree)
        for j in range(1, degree):
            if coefficients >> (degree - 1 - j) & 1:
                new ^= numbers[k - j] << j
        numbers.append(new)
    return np.array([number << (BITS - 1 - k) for k, number in enumerate(numbers)], np.uint32)


_DIRECTIONS = np.stack(
    [np.array([1 << (BITS - 1 - k) for k in range(BITS)], np.uint32), *(_directions(*row) for row in SOBOL)]
)
