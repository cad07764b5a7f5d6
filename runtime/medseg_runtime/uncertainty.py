"""What a set of plausible masks says together: agreement, disagreement, a consensus.

Everything here is counted from the binary masks of N samples, so that a confidence of 12/16 means exactly that.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Bool = npt.NDArray[np.bool_]
UInt8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

CHUNK = 1 << 22
"""Pixels of all masks together per matrix product: neither large photographs nor a thousand masks are copied whole as float32."""


def confidence(counts: npt.NDArray[np.integer], samples: int) -> Float32:
    """Return the fraction of samples that contain each pixel: (...) counts in 0 ... samples -> (...) float32 in [0, 1]."""
    return np.asarray(counts / np.float64(samples), np.float32)


def consensus(confidence: Float32) -> Bool:
    """Return where at least half of the samples agree: confidence >= 0.5.

    A tie counts, as it does in the raters' majority that it is measured against (`metrics.majority`); the paper's follow-up leaves it
    out. What half of the outlines hold should not go unseen.
    """
    return confidence >= 0.5


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
    step = max(1, CHUNK // (len(a) + len(b)))
    for start in range(0, a.shape[1], step):  # a matrix product counts pixels exactly in float32, up to 2**24 of them
        part = np.s_[:, start : start + step]
        intersection += a[part].astype(np.float32) @ b[part].astype(np.float32).T
    return _over_union(intersection, np.count_nonzero(a, axis=1), np.count_nonzero(b, axis=1))


def pairwise_iou_packed(masks: UInt8) -> Float64:
    """Return the same among masks of one set that are packed into bits, (N, bytes) as of `np.packbits`; (N, N)."""
    intersection = np.zeros((len(masks), len(masks)))
    step = max(1, CHUNK // (8 * len(masks)))
    for start in range(0, masks.shape[1], step):
        part = np.unpackbits(masks[:, start : start + step], axis=1).astype(np.float32)
        intersection += part @ part.T
    areas = np.diag(intersection).astype(np.int64)
    return _over_union(intersection, areas, areas)


def _over_union(intersection: Float64, first: npt.NDArray[np.int64], second: npt.NDArray[np.int64]) -> Float64:
    """Turn intersections (N, M) and areas (N,), (M,), in pixels, into IoU."""
    union = first[:, None] + second[None, :] - intersection
    return np.asarray(np.divide(intersection, union, out=np.ones_like(union), where=union > 0), np.float64)


def mean_over_pairs(values: Float64) -> float:
    """Return the mean of a square matrix without its diagonal: pairs i != j; NaN for a single sample."""
    n = len(values)
    return float((values.sum() - np.trace(values)) / (n * (n - 1))) if n > 1 else float("nan")
