"""How well a set of masks stands for a set of raters. Definitions: Kohl et al. 2018/2019, as restated below.

N samples S_i and R raters Y_j of one image; d = 1 - IoU, and the IoU of two empty masks is 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medseg_runtime.uncertainty import mean_over_pairs, pairwise_iou

Bool = npt.NDArray[np.bool_]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

CALIBRATION_BINS = 15


def generalized_energy_distance(samples: Bool, raters: Bool) -> float:
    """Return GED^2 = 2 E[d(S,Y)] - E[d(S,S')] - E[d(Y,Y')], all pairs, i = j included (Kohl et al. 2018, Eq. 4).

    samples: (N, ...) bool. raters: (R, ...) bool. Lower is better; 0 when the two sets are the same.
    """
    return float(
        2.0 * np.mean(1.0 - pairwise_iou(samples, raters))
        - np.mean(1.0 - pairwise_iou(samples, samples))
        - np.mean(1.0 - pairwise_iou(raters, raters))
    )


def hungarian_matched_iou(samples: Bool, raters: Bool) -> float:
    """Return the mean IoU of the best one-to-one matching of both sets, repeated to their least common multiple.

    samples: (N, ...) bool. raters: (R, ...) bool. Higher is better, in [0, 1] (Kohl et al. 2019, arXiv 1905.13077).
    """
    from scipy.optimize import linear_sum_assignment  # evaluation only: the base install has no scipy

    size = math.lcm(len(samples), len(raters))
    iou = pairwise_iou(samples, raters)
    iou = np.tile(iou, (size // len(samples), size // len(raters)))
    rows, columns = linear_sum_assignment(iou, maximize=True)
    return float(iou[rows, columns].mean())


def diversity(masks: Bool) -> float:
    """Return E[d] over pairs i != j of one set, in [0, 1]: 0 when all masks are the same; NaN for one mask."""
    return mean_over_pairs(1.0 - pairwise_iou(masks, masks))


def majority(raters: Bool) -> Bool:
    """Return the pixels that at least half of the raters marked."""
    return np.asarray(2 * np.count_nonzero(raters, axis=0) >= len(raters), np.bool_)


def dice(first: Bool, second: Bool) -> float:
    """Return 2 |A and B| / (|A| + |B|); 1 when both are empty."""
    total = np.count_nonzero(first) + np.count_nonzero(second)
    return 2.0 * np.count_nonzero(first & second) / total if total else 1.0


def iou(first: Bool, second: Bool) -> float:
    """Return |A and B| / |A or B|; 1 when both are empty."""
    return float(pairwise_iou(first[None], second[None])[0, 0])


@dataclass(frozen=True, slots=True)
class Calibration:
    """Sums over pixels from which Brier score and ECE follow; add those of several images.

    Pixels where both maps are zero are left out: they would drown everything in correct background.
    """

    count: npt.NDArray[np.int64]
    """(15,) pixels per confidence bin."""
    confidence: Float64
    """(15,) summed confidence per bin."""
    agreement: Float64
    """(15,) summed fraction of raters per bin."""
    squared_error: float

    @classmethod
    def of(cls, confidence: Float32, raters: Bool) -> Calibration:
        """Compare a confidence map (...) with the mean of the raters (R, ...)."""
        mean = raters.mean(axis=0, dtype=np.float64)
        counted = (confidence > 0) | (mean > 0)
        c, m = confidence[counted].astype(np.float64), mean[counted]
        bins = np.minimum((c * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)
        return cls(
            np.bincount(bins, minlength=CALIBRATION_BINS),
            np.asarray(np.bincount(bins, weights=c, minlength=CALIBRATION_BINS), np.float64),
            np.asarray(np.bincount(bins, weights=m, minlength=CALIBRATION_BINS), np.float64),
            float(np.sum((c - m) ** 2)),
        )

    def __add__(self, other: Calibration) -> Calibration:
        return Calibration(
            self.count + other.count,
            self.confidence + other.confidence,
            self.agreement + other.agreement,
            self.squared_error + other.squared_error,
        )

    @property
    def gap(self) -> Float64:
        """(15,) summed confidence less summed fraction of raters, per bin."""
        return self.confidence - self.agreement

    @property
    def brier(self) -> float:
        """Mean squared difference between confidence and raters' mean."""
        return self.squared_error / max(int(self.count.sum()), 1)

    @property
    def expected_calibration_error(self) -> float:
        """Mean absolute gap between confidence and raters' mean over the bins, weighted by their pixels."""
        return float(np.abs(self.gap).sum() / max(int(self.count.sum()), 1))
