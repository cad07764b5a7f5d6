"""Count samples batch by batch, over the part of the field inside the image. Outside it all masks are empty.

logits => probabilities => masks => counts, sums, areas, bits

Unless masks are kept, memory does not grow with the number of samples, except for one area per sample.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from medseg_runtime.model.preprocess import Placement, to_seen
from medseg_runtime.result import stopping, uncertainty

Bool = npt.NDArray[np.bool_]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

COMPARED = 64
"""Number of samples whose masks are compared with each other when masks are not kept."""
CHUNK = 1 << 20
"""Pixels processed at once: sixteen samples of a small field together, those of a photograph one by one."""


class Accumulator:
    """Counts, sums and areas of the samples of one image so far."""

    def __init__(self, classes: int, placement: Placement, threshold: float, *, keep: int) -> None:
        """Start at zero.

        classes: number of foreground classes. threshold: of the probability, used with one class.
        keep: the most masks to keep, 0 for none.
        """
        shape = (classes, placement.seen.height, placement.seen.width)
        self.samples = 0
        self.counts = np.zeros(shape, np.int32)
        """(classes, rows, columns) number of samples that contain the pixel."""
        self._probability = np.zeros(shape, np.float64)
        self._placement, self._threshold = placement, threshold
        self._masks = np.zeros((keep, classes, placement.image_height, placement.image_width), np.bool_)
        self._areas: list[npt.NDArray[np.int64]] = []
        self._bits: list[npt.NDArray[np.uint8]] = []

    def add(self, logits: Float32) -> None:
        """Add a batch of logits (N, K, h, w)."""
        probability = foreground_probability(logits)
        for chunk in self._chunks(probability):
            self._count(binarise(chunk, self._threshold))
            for sample in chunk:  # one by one, so that the rounding does not depend on the batch
                self._probability += sample

    def _chunks(self, probability: Float32) -> Iterator[Float32]:
        """Yield (N, classes, h, w) resampled to image pixels, a few samples at a time."""
        field = self._placement.field
        step = max(1, CHUNK // (probability.shape[1] * field.width * field.height))
        for start in range(0, len(probability), step):
            chunk = probability[start : start + step]
            seen = to_seen(chunk.reshape(-1, *chunk.shape[2:]), self._placement)
            yield seen.reshape(*chunk.shape[:2], *seen.shape[1:])

    def _count(self, masks: Bool) -> None:
        self.counts += masks.view(np.uint8).sum(axis=0, dtype=np.uint8)  # a batch has fewer than 256 samples
        self._areas.append(np.count_nonzero(masks, axis=(2, 3)))
        first, self.samples = self.samples, self.samples + len(masks)
        if self._keeps or first < COMPARED:
            self._bits.append(np.packbits(masks.reshape(*masks.shape[:2], -1), axis=2))
        if self._keeps:
            box = self._placement.seen
            inside = np.s_[first : self.samples, :, box.y : box.y + box.height, box.x : box.x + box.width]
            self._masks[inside] = masks

    @property
    def _keeps(self) -> bool:
        return len(self._masks) > 0

    def standard_error(self) -> float:
        """Return the standard error of the confidence."""
        return stopping.standard_error(self.counts, self.samples)

    def masks(self) -> Bool | None:
        """Return the masks (N, classes, H, W), or None if they are not kept."""
        return self._masks[: self.samples] if self._keeps else None

    def confidence(self) -> Float32:
        """Return the share of samples that contain each pixel, (classes, rows, columns)."""
        return uncertainty.confidence(self.counts, self.samples)

    def mean_probability(self) -> Float32:
        """Return the mean probability of each pixel over the samples, (classes, rows, columns)."""
        return (self._probability / self.samples).astype(np.float32)

    def areas(self) -> npt.NDArray[np.int64]:
        """Return the number of pixels in each mask, (N, classes)."""
        return np.concatenate(self._areas)

    def mean_pairwise_iou(self) -> Float64:
        """Return the mean IoU of sample pairs for each class, (classes,). Without kept masks: of the first `COMPARED` samples."""
        bits = np.concatenate(self._bits)
        compared = bits if self._keeps else bits[:COMPARED]
        return np.array([uncertainty.mean_pairwise_iou(compared[:, c]) for c in range(compared.shape[1])])


def foreground_probability(logits: Float32) -> Float32:
    """Return the probability of each foreground class: logits (N, K, h, w) => (N, classes, h, w).

    K = 1: a sigmoid. K > 1: a softmax without its first channel, the background.
    """
    if logits.shape[1] == 1:
        half = np.float32(0.5)
        probability: Float32 = np.tanh(half * logits)  # the sigmoid is (1 + tanh(x / 2)) / 2, without overflow
        probability += 1
        probability *= half
        return probability
    exponential = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray((exponential / exponential.sum(axis=1, keepdims=True))[:, 1:], np.float32)


def binarise(probability: Float32, threshold: float) -> Bool:
    """Return masks of probabilities (N, classes, H, W): above the threshold, or the most likely of several classes."""
    if probability.shape[1] == 1:
        return probability > threshold
    background = 1.0 - probability.sum(axis=1, keepdims=True)
    # argmax takes the first of equal values, so classes never overlap
    likeliest = np.concatenate([background, probability], axis=1).argmax(axis=1)
    return np.asarray(likeliest[:, None] == np.arange(1, 1 + probability.shape[1])[:, None, None], np.bool_)
