"""When `samples="auto"` stops drawing: as soon as the confidence has a small enough standard error.

A pixel that k of n samples contain has the confidence k / n. For independent samples its variance is

    k (n - k) / (n^2 (n - 1))        an unbiased estimate of p (1 - p) / n

The mean over the field is what a finite n adds to the Brier score of the confidence. Its root is the standard error of the
confidence. Drawing stops when that is at most `TOLERANCE`: early where samples agree or the finding is small, late where they
disagree over a large area. Paired or stratified noise makes the true error smaller still.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

FIRST, NEXT = 12, 4
"""Samples drawn before the first check, and between checks. Even, because antithetic samples come in pairs."""
TOLERANCE = 0.03
"""Standard error of the confidence at which drawing stops."""
MAX_SAMPLES = 64
"""The default limit."""


def standard_error(counts: npt.NDArray[np.integer], samples: int) -> float:
    """Return the standard error of the confidence, its root mean square over all pixels; NaN for a single sample.

    counts: (...) number of samples that contain each pixel of the field, 0 to samples.
    """
    if samples < 2:
        return math.nan
    k = counts.astype(np.float64)
    return math.sqrt(float(np.mean(k * (samples - k))) / (samples**2 * (samples - 1)))


def stages(limit: int) -> Iterator[range]:
    """Yield the numbers of the samples to draw before each check, up to the limit."""
    start, stop = 0, min(FIRST, limit)
    while start < stop:
        yield range(start, stop)
        start, stop = stop, min(stop + NEXT, limit)
