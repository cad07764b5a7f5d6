"""What a set of plausible masks says together: agreement, disagreement, a consensus.

Everything here is counted from the binary masks of N samples, so that a confidence of 12/16 means exactly that.
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
"""Masks that are compared with all others at once."""


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
    a, b = (np.packbits(masks.reshape(len(masks), -1), axis=1) for masks in (first, second))
    return _iou(_words(a), _words(b))


def mean_pairwise_iou(masks: UInt8) -> float:
    """Return the mean IoU over the pairs of different masks; NaN for a single one.

    masks: packed into bits, (N, bytes) as of `np.packbits`. It takes the memory of `ROWS` x N numbers.
    """
    words = _words(masks)
    count = len(words)
    if count < 2:
        return float("nan")
    total = sum(float(_iou(words[start : start + ROWS], words).sum()) for start in range(0, count, ROWS))
    return (total - count) / (count * (count - 1))  # each with itself is 1


def _words(bits: UInt8) -> UInt64:
    """(N, bytes) => (N, words), with zeros at the end."""
    padded = np.zeros((len(bits), -(-bits.shape[1] // 8) * 8), np.uint8)
    padded[:, : bits.shape[1]] = bits
    return padded.view(np.uint64)


def _iou(first: UInt64, second: UInt64) -> Float64:
    """Count the bits that masks share.

    A matrix product would be as fast, but it wakes NumPy's threads, and those spin for the next tens of milliseconds beside the
    networks: it made the next image's 64 samples take twice as long.
    """
    intersection = np.array([_set_bits(second & mask) for mask in first])
    union = _set_bits(first)[:, None] + _set_bits(second)[None, :] - intersection
    return np.asarray(np.divide(intersection, union, out=np.ones(union.shape), where=union > 0), np.float64)


def _set_bits(words: UInt64) -> npt.NDArray[np.int64]:
    return np.asarray(np.bitwise_count(words).sum(axis=1, dtype=np.int64), np.int64)


def mean_over_pairs(values: Float64) -> float:
    """Return the mean of a square matrix without its diagonal: pairs i != j; NaN for a single sample."""
    n = len(values)
    return float((values.sum() - np.trace(values)) / (n * (n - 1))) if n > 1 else float("nan")
