"""Compare a set of masks with a set of raters: GED, HM-IoU, diversity, Dice, HD95, calibration.

Definitions: Kohl et al. 2018 (arXiv 1806.05034) and 2019 (arXiv 1905.13077), restated below.

N samples S_i and R raters Y_j of one image; d = 1 - IoU, and the IoU of two empty masks is 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medseg_runtime.result.uncertainty import mean_over_pairs, pairwise_iou

Bool = npt.NDArray[np.bool_]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

CALIBRATION_BINS = 15


@dataclass(frozen=True, slots=True)
class Overlaps:
    """The IoU of every pair of N samples and R raters of one image; GED, HM-IoU and the diversities follow from it."""

    samples: Float64
    """(N, N) samples among each other."""
    raters: Float64
    """(R, R) raters among each other."""
    across: Float64
    """(N, R) each sample with each rater."""

    @classmethod
    def of(cls, samples: Bool, raters: Bool) -> Overlaps:
        """Compare samples (N, ...) with raters (R, ...) of the same shape."""
        count = len(samples)
        iou = pairwise_iou(both := _cropped(np.concatenate([samples, raters])), both)
        return cls(iou[:count, :count], iou[count:, count:], iou[:count, count:])

    def of_samples(self, indices: slice | npt.NDArray[np.int64]) -> Overlaps:
        """Return the overlaps of these samples only."""
        return Overlaps(self.samples[indices][:, indices], self.raters, self.across[indices])

    def ged(self, weights: Float64 | None = None) -> float:
        """Return the generalised energy distance; see `generalized_energy_distance`."""
        rows, w = _shares(len(self.raters)), _shares(len(self.samples)) if weights is None else weights
        across, among = 1.0 - w @ self.across @ rows, 1.0 - w @ self.samples @ w
        return float(2.0 * across - among - (1.0 - rows @ self.raters @ rows))

    def hm_iou(self, weights: Float64 | None = None) -> float:
        """Return the mean IoU of the best matching; see `hungarian_matched_iou`."""
        if weights is not None:
            return _best_plan(self.across, weights, _shares(len(self.raters)))
        from scipy.optimize import linear_sum_assignment  # evaluation only: the base install has no scipy

        num_samples, num_raters = self.across.shape
        size = math.lcm(num_samples, num_raters)
        iou = np.tile(self.across, (size // num_samples, size // num_raters))
        rows, columns = linear_sum_assignment(iou, maximize=True)
        return float(iou[rows, columns].mean())

    @property
    def sample_diversity(self) -> float:
        """E[d(S,S')] over pairs i != j; NaN for one sample."""
        return mean_over_pairs(1.0 - self.samples)

    @property
    def rater_diversity(self) -> float:
        """E[d(Y,Y')] over pairs i != j; NaN for one rater."""
        return mean_over_pairs(1.0 - self.raters)


def generalized_energy_distance(samples: Bool, raters: Bool, weights: Float64 | None = None) -> float:
    """Return GED^2 = 2 E[d(S,Y)] - E[d(S,S')] - E[d(Y,Y')], all pairs, i = j included (Kohl et al. 2018, Eq. 4).

    samples: (N, ...) bool. raters: (R, ...) bool. Lower is better; 0 when the two sets are the same.
    weights: (N,) shares of the samples, which sum to 1; by default 1 / N each. The expectations over S become weighted sums:
        2 sum_i w_i E_Y d(S_i,Y) - sum_ij w_i w_j d(S_i,S_j) - E[d(Y,Y')]. With multiples of 1 / M this is the plain GED of M
        samples in which S_i occurs w_i M times.
    """
    return Overlaps.of(samples, raters).ged(weights)


def hungarian_matched_iou(samples: Bool, raters: Bool, weights: Float64 | None = None) -> float:
    """Return the mean IoU of the best one-to-one matching of both sets, repeated to their least common multiple.

    samples: (N, ...) bool. raters: (R, ...) bool. Higher is better, in [0, 1] (Kohl et al. 2019, arXiv 1905.13077).
    weights: (N,) shares of the samples, which sum to 1; by default 1 / N each. A matching of repeated sets is an optimal
        transport plan between shares, which is defined for any weights: sample i sends w_i, each rater receives 1 / R.
    """
    return Overlaps.of(samples, raters).hm_iou(weights)


def _shares(count: int) -> Float64:
    return np.full(count, 1.0 / count)


def _best_plan(value: Float64, given: Float64, received: Float64) -> float:
    """Return the largest sum of plan * value over plans >= 0 with row sums `given` and column sums `received`."""
    from scipy.optimize import linprog

    n, m = value.shape
    rows, columns = np.kron(np.eye(n), np.ones(m)), np.kron(np.ones(n), np.eye(m))
    sums = np.concatenate([given, received])[:-1]  # the last constraint follows from the others
    return -float(linprog(-value.ravel(), A_eq=np.concatenate([rows, columns])[:-1], b_eq=sums).fun)


def _cropped(masks: Bool) -> Bool:
    """Crop masks (N, H, W) to their common bounding box, at least one pixel. Pixels that are empty in all change no IoU."""
    if masks.ndim != 3:
        return masks
    anywhere: Bool = np.any(masks, axis=0)
    rows, columns = np.flatnonzero(anywhere.any(axis=1)), np.flatnonzero(anywhere.any(axis=0))
    if not len(rows):
        return masks[:, :1, :1]
    return masks[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def diversity(masks: Bool) -> float:
    """Return E[d] over pairs i != j of one set, in [0, 1]: 0 when all masks are the same; NaN for one mask."""
    return mean_over_pairs(1.0 - pairwise_iou(masks, masks))


@dataclass(frozen=True, slots=True)
class Identity:
    """Whether sample k of one frame is the same hypothesis as sample k of the next."""

    same: float
    """Mean IoU of mask k with mask k of the next frame, in [0, 1]."""
    others: float
    """Mean IoU of mask k with masks k' != k of the next frame."""

    @classmethod
    def of(cls, first: Bool, second: Bool) -> Identity:
        """Compare the samples of two neighbouring frames, each (N, H, W) with N >= 2. The IoU of two empty masks is 1."""
        both = _cropped(np.concatenate([first, second]))
        iou = pairwise_iou(both[: len(first)], both[len(first) :])
        return cls(float(np.trace(iou)) / len(iou), mean_over_pairs(iou))

    @property
    def gain(self) -> float:
        """`same` less `others`, in [-1, 1]: 0 if a sample's number means nothing from frame to frame."""
        return self.same - self.others


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


def hausdorff_95(first: Bool, second: Bool, spacing: tuple[float, float] = (1.0, 1.0)) -> float:
    """Return the 95th percentile of the distances between two masks' borders: the larger of both directions.

    first, second: (H, W) bool. spacing: of rows and columns; the result is in its unit, by default pixels.
    The border of a mask is its pixels with a 4-neighbor outside it, or at the image's edge. Distances are between pixel
    centers. Two empty masks give 0; one empty mask gives NaN.
    """
    from scipy.ndimage import binary_erosion, distance_transform_edt

    if not first.any() or not second.any():
        return float("nan") if first.any() or second.any() else 0.0
    first, second = _cropped(np.stack([first, second]))
    borders = [mask & ~binary_erosion(mask) for mask in (first, second)]
    distances = [distance_transform_edt(~border, sampling=spacing) for border in borders]
    directions = (distances[1][borders[0]], distances[0][borders[1]])
    return max(float(np.percentile(distance, 95)) for distance in directions)


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """One point of a reliability diagram."""

    pixels: int
    confidence: float
    """Mean over the bin's pixels."""
    agreement: float
    """Mean share of the raters who marked them. A calibrated confidence equals it."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """Sums over pixels that give Brier score and ECE. Add them up over images.

    Pixels where both maps are zero are left out; otherwise correct background would dominate.
    """

    count: npt.NDArray[np.int64]
    """(15,) pixels per confidence bin."""
    confidence: Float64
    """(15,) summed confidence per bin."""
    agreement: Float64
    """(15,) summed share of raters per bin."""
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
        """(15,) summed confidence minus summed share of raters, per bin."""
        return self.confidence - self.agreement

    @property
    def reliability(self) -> tuple[ReliabilityBin, ...]:
        """The bins that have pixels, by rising confidence."""
        return tuple(
            ReliabilityBin(int(n), float(c / n), float(a / n))
            for n, c, a in zip(self.count, self.confidence, self.agreement, strict=True)
            if n
        )

    @property
    def brier(self) -> float:
        """Mean squared difference between confidence and raters' mean."""
        return self.squared_error / max(int(self.count.sum()), 1)

    @property
    def expected_calibration_error(self) -> float:
        """Mean absolute gap between confidence and raters' mean over the bins, weighted by their pixels."""
        return float(np.abs(self.gap).sum() / max(int(self.count.sum()), 1))
