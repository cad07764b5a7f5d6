"""What a set of plausible masks says together: agreement, disagreement, a consensus.

Everything here is counted from the binary masks of N samples, so that a confidence of 12/16 means exactly that.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Bool = npt.NDArray[np.bool_]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

CHUNK = 1 << 20
"""Pixels per matrix product: large photographs are not copied whole as float32."""


def confidence(masks: Bool) -> Float32:
    """Return the fraction of samples that contain each pixel: (N, ...) bool -> (...) float32 in [0, 1]."""
    return np.asarray(np.count_nonzero(masks, axis=0) / np.float64(len(masks)), np.float32)


def consensus(confidence: Float32) -> Bool:
    """Return where more than half of the samples agree: confidence > 0.5, as the paper does."""
    return confidence > 0.5


def entropy(confidence: Float32) -> Float32:
    """Return the binary entropy of the confidence in bits: 0 where all samples agree, 1 where they are split in half."""
    p = confidence.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        bits = -(p * np.log2(p) + (1.0 - p) * np.log2(1.0 - p))
    return np.nan_to_num(bits, nan=0.0).astype(np.float32)


def pairwise_iou(first: Bool, second: Bool) -> Float64:
    """Return the intersection over union of every mask of one set with every mask of the other.

    first: (N, ...) bool. second: (M, ...) bool. Returns (N, M) in [0, 1]; the IoU of two empty masks is 1.
    """
    a, b = first.reshape(len(first), -1), second.reshape(len(second), -1)
    intersection = np.zeros((len(a), len(b)))
    for start in range(0, a.shape[1], CHUNK):  # a matrix product counts pixels exactly in float32, up to 2**24 of them
        part = np.s_[:, start : start + CHUNK]
        intersection += a[part].astype(np.float32) @ b[part].astype(np.float32).T
    union = np.count_nonzero(a, axis=1)[:, None] + np.count_nonzero(b, axis=1)[None, :] - intersection
    return np.asarray(np.divide(intersection, union, out=np.ones_like(union), where=union > 0), np.float64)


def mean_over_pairs(values: Float64) -> float:
    """Return the mean of a square matrix without its diagonal: pairs i != j; NaN for a single sample."""
    n = len(values)
    return float((values.sum() - np.trace(values)) / (n * (n - 1))) if n > 1 else float("nan")
