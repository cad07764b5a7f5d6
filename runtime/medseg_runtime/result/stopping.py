"""When enough samples have been drawn: as soon as more of them would hardly move the confidence.

A pixel that k of n samples contain has the confidence k / n, and, were the samples independent, the binomial variance

    k (n - k) / (n^2 (n - 1))        an unbiased estimate of p (1 - p) / n

Its mean over the field is what the finite n adds to the Brier score of the confidence; its root is the confidence's standard
error. Drawing stops when that is at most `TOLERANCE`: soon where the samples agree or the finding is small, late where a large
part of the field is in dispute. Paired or stratified noise only makes the true error smaller.
`benchmarks/samples_auto.py` measures what the rule saves and costs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

FIRST, NEXT = 12, 4
"""Samples drawn before the first look, and between looks; even, because antithetic samples come in pairs."""
TOLERANCE = 0.03
"""Standard error of the confidence at which drawing stops."""
MAX_SAMPLES = 64
"""Drawn at most, where a caller sets no other limit."""


def standard_error(counts: npt.NDArray[np.integer], samples: int) -> float:
    """Return the standard error of the confidence, its root mean square over all pixels; NaN for a single sample.

    counts: (...) in how many of the samples each pixel of the field is, 0 to samples.
    """
    if samples < 2:
        return math.nan
    k = counts.astype(np.float64)
    return math.sqrt(float(np.mean(k * (samples - k))) / (samples**2 * (samples - 1)))


def stages(limit: int) -> Iterator[range]:
    """Yield the numbers of the samples to draw before each look, up to the limit."""
    start, stop = 0, min(FIRST, limit)
    while start < stop:
        yield range(start, stop)
        start, stop = stop, min(stop + NEXT, limit)
