"""Where samples start: noise that belongs to a sample's number, whatever the batch, the backend or its neighbours.

independent   every number for itself
antithetic    sample 2j + 1 has the negated noise of sample 2j
stratified    a part of the variance is one number per channel and sample, and those numbers are points of a Sobol sequence: sixteen
              samples then spread over what decides the outline most evenly, as sixteen independent ones do not
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from medseg_runtime.errors import ParameterError

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
UInt32 = npt.NDArray[np.uint32]

BITS = 32
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
    """How the starting noise of the samples of one image hangs together; each sample by itself is standard normal."""

    antithetic: bool = False
    """Sample 2j + 1 starts from the negated noise of sample 2j."""
    stratified: float = 0.0
    """Share of the variance that is one number per channel and sample, in [0, 1); see `sobol_normal`."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.stratified < 1.0 or (self.antithetic and self.stratified):
            raise ParameterError(
                f"stratified {self.stratified} beside antithetic {self.antithetic} is no law of noise",
                "Use a share in [0, 1), and only one of both.",
            )


class SampleNoise:
    """The random numbers of one sample, from (seed, index) alone.

    Sample k is therefore the same for every number of samples, batch split and backend. The stream is one that NumPy
    promises never to change: MT19937, seeded through SeedSequence, read by `RandomState`.
    """

    def __init__(self, seed: int, index: int, law: NoiseLaw) -> None:
        self._seed, self._index, self._law = seed, index, law
        stream, self._negated = divmod(index, 2) if law.antithetic else (index, 0)
        sequence = np.random.SeedSequence(entropy=seed, spawn_key=(stream,))
        self._state = np.random.RandomState(np.random.MT19937(sequence))

    def start(self, shape: tuple[int, int, int]) -> Float32:
        """Return the noise that the sample starts from, (Z, h, w) float32; called once, before any `draw`."""
        values = self.draw(shape)
        if not self._law.stratified:
            return values
        common = sobol_normal(self._seed, self._index, shape[0]).astype(np.float32)[:, None, None]
        share = np.float32(self._law.stratified)
        mixed: Float32 = np.sqrt(1 - share) * values + np.sqrt(share) * common
        return mixed

    def draw(self, shape: tuple[int, ...]) -> Float32:
        """Return the next standard normal array of this sample, float32."""
        values = self._state.standard_normal(shape).astype(np.float32)
        return -values if self._negated else values


def sobol_normal(seed: int, index: int, channels: int) -> Float64:
    """Return point `index` of a Sobol sequence with a random digital shift, mapped to standard normal numbers, (channels,).

    Over the seeds every point is uniform, so every sample keeps its law; within one seed each aligned block of 2^m points has one
    point in each of 2^m equal intervals, in every channel (Sobol 1967; the shift: Owen 2003, section 6).

    Raises:
        ParameterError: there are more channels than directions.
    """
    shift = np.random.SeedSequence(entropy=seed, spawn_key=(0, 0)).generate_state(channels, np.uint32)
    uniform = ((sobol_bits(index, channels) ^ shift) + 0.5) / 2.0**BITS
    return np.array([NormalDist().inv_cdf(u) for u in uniform])


def sobol_bits(index: int, channels: int) -> UInt32:
    """Return point `index` of the unshifted sequence as 32-bit fractions, in natural order, (channels,).

    Raises:
        ParameterError: there are more channels than directions.
    """
    if channels > MAX_STRATIFIED:
        raise ParameterError(
            f"noise of {channels} channels cannot be stratified", f"Use a latent of at most {MAX_STRATIFIED} channels."
        )
    chosen = [bit for bit in range(BITS) if index >> bit & 1]
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
