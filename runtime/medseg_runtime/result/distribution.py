"""One measurement of every sample, and what the samples say together."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]

LOW, HIGH = 5.0, 95.0
"""The percentiles that are reported."""


@dataclass(frozen=True, eq=False, slots=True)
class Distribution:
    """A measurement of N samples. An empty sample measures 0, and counts.

    Where some samples are empty, the median and the mean of all lie between nothing and the finding, and may be a size that no sample
    has. `present` holds the samples that are not empty: show its figures, and beside them the share of samples that are not empty.
    """

    values: Float64
    """(N,) sample k at place k; 0 where it is empty."""
    unit: str
    """`mm`, `mm2` or `mm3`; `px` for lengths in pixels and for areas counted in pixels."""

    def __len__(self) -> int:
        return len(self.values)

    @property
    def mean(self) -> float:
        """The mean; NaN without samples."""
        return float(self.values.mean()) if len(self) else math.nan

    @property
    def standard_deviation(self) -> float:
        """The standard deviation, with N - 1 as divisor; NaN for fewer than two samples."""
        return float(self.values.std(ddof=1)) if len(self) > 1 else math.nan

    @property
    def median(self) -> float:
        """The 50th percentile; NaN without samples."""
        return self.percentile(50.0)

    @property
    def low(self) -> float:
        """The 5th percentile; NaN without samples."""
        return self.percentile(LOW)

    @property
    def high(self) -> float:
        """The 95th percentile; NaN without samples."""
        return self.percentile(HIGH)

    def percentile(self, percent: float) -> float:
        """Return a percentile, 0 to 100, linear between the sorted samples; NaN without samples."""
        return float(np.percentile(self.values, percent)) if len(self) else math.nan

    def share_above(self, limit: float) -> float:
        """Return the share of the samples that measure more than a limit, in [0, 1]; NaN without samples."""
        return np.count_nonzero(self.values > limit) / len(self) if len(self) else math.nan

    @property
    def present(self) -> Distribution:
        """The same measurement of the samples that are not empty; maybe of none."""
        return Distribution(self.values[self.values > 0], self.unit)
