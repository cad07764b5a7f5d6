"""Confidence, consensus, entropy and pairwise IoU of a set of masks.

All are counted from the binary masks of N samples: a confidence of 12/16 means that twelve samples contain the pixel.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Bool = npt.NDArray[np.bool_]
UInt8 = npt.NDArray[np.uint8]
UInt64 = npt.NDArray[np.uint64]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

ROWS = 64
"""Masks compared with all others at once; bounds the memory."""


def confidence(counts: npt.NDArray[np.integer], samples: int) -> Float32:
    """Return the share of samples that contain each pixel: counts (...), 0 to samples => (...) float32 in [0, 1]."""
    return np.asarray(counts / np.float64(samples), np.float32)


def consensus(confidence: Float32) -> Bool:
    """Return where at least half of the samples agree: confidence >= 0.5.

    A tie counts, as in the raters' majority (`metrics.majority`) that the consensus is compared with. (The paper's follow-up
    excludes ties.)
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
    a, b = (np.packbits(masks.reshape(len(masks), -1), axis=1) for masks in (first, second))
    return _iou(_words(a), _words(b))


def mean_pairwise_iou(masks: UInt8) -> float:
    """Return the mean IoU over the pairs of different masks; NaN for a single mask.

    masks: (N, bytes), packed by `np.packbits`. Needs memory for `ROWS` x N numbers.
    """
    words = _words(masks)
    count = len(words)
    if count < 2:
        return float("nan")
    total = sum(float(_iou(words[start : start + ROWS], words).sum()) for start in range(0, count, ROWS))
    return (total - count) / (count * (count - 1))  # the IoU of a mask with itself is 1


def _words(bits: UInt8) -> UInt64:
    """Return (N, bytes) as (N, 64-bit words), padded with zeros."""
    padded = np.zeros((len(bits), -(-bits.shape[1] // 8) * 8), np.uint8)
    padded[:, : bits.shape[1]] = bits
    return padded.view(np.uint64)


def _iou(first: UInt64, second: UInt64) -> Float64:
    """Return the IoU of every pair, by counting common bits.

    Not a matrix product: that wakes NumPy's threads, which spin for tens of milliseconds and doubled the time of the next
    image's networks.
    """
    intersection = np.array([_set_bits(second & mask) for mask in first])
    union = _set_bits(first)[:, None] + _set_bits(second)[None, :] - intersection
    return np.asarray(np.divide(intersection, union, out=np.ones(union.shape), where=union > 0), np.float64)


def _set_bits(words: UInt64) -> npt.NDArray[np.int64]:
    return np.asarray(np.bitwise_count(words).sum(axis=1, dtype=np.int64), np.int64)


def mean_over_pairs(values: Float64) -> float:
    """Return the mean of a square matrix without its diagonal (pairs i != j); NaN for a 1 x 1 matrix."""
    n = len(values)
    return float((values.sum() - np.trace(values)) / (n * (n - 1))) if n > 1 else float("nan")
