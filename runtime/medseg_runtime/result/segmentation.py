"""What comes out of a segmenter: N plausible masks of one image, and what they say together."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from medseg_runtime.errors import ParameterError
from medseg_runtime.model.preprocess import Placement
from medseg_runtime.result.representatives import representatives

Bool = npt.NDArray[np.bool_]
Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class Segmentation:
    """N plausible masks of one image, in its own pixel grid (H, W), and what they say together.

    With several classes every map has an axis for them before (H, W), and so have `areas`, (N, classes), and `mean_pairwise_iou`, (classes,).
    """

    samples: int
    """N, how many were drawn."""
    settled: bool | None
    """With `samples="auto"`: whether drawing stopped because the confidence had settled, and not at the limit; otherwise None."""
    kept_masks: Bool | None = field(repr=False)
    """(N, H, W), or None where the caller asked for none; `masks` is the same, and never None."""
    confidence: Float32
    """(H, W) fraction of samples that contain the pixel, in [0, 1]."""
    consensus: Bool
    """(H, W) where at least half of the samples agree."""
    entropy: Float32
    """(H, W) binary entropy of the confidence in bits, in [0, 1]."""
    mean_probability: Float32
    """(H, W) mean over the samples of the decoder's probability, before the threshold."""
    areas: npt.NDArray[np.int64]
    """(N,) pixels in each mask."""
    standard_error: float
    """Of the confidence, for N samples: its root mean square over the field; NaN for a single sample. See `settled`."""
    mean_pairwise_iou: npt.NDArray[np.float64]
    """() mean IoU of sample pairs i != j; 1 when all agree, NaN for a single sample. Without kept masks: of the first 64 samples."""
    classes: tuple[str, ...]
    placement: Placement
    """Where in the image the network looked."""
    sampler: str
    steps: int
    seed: int
    threshold: float
    backend: str
    """Name and version of the engine."""
    precision: str
    """What the networks multiplied in: float32, bfloat16 or float16."""
    warnings: tuple[str, ...] = ()
    """What a reader of the masks should know, one sentence each."""
    timings_ms: dict[str, float] = field(default_factory=dict)
    """Wall time per stage: preprocess, encode, denoise, decode, aggregate."""

    @property
    def masks(self) -> Bool:
        """(N, H, W) one plausible mask per sample.

        Raises:
            ParameterError: they were not kept.
        """
        if self.kept_masks is None:
            raise ParameterError("the masks of this call were not kept", "Call the segmenter with keep_masks=True.")
        return self.kept_masks

    def representatives(self, count: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Choose the samples that stand best for all of them: a person can look at four masks, not at sixty-four.

        Of several classes the masks of a sample are compared as one, by the IoU over all of them.

        Returns the numbers (K,) of at most `count` samples and the shares (K,) of all that they stand for, the largest first.

        Raises:
            ParameterError: count is not between 1 and the number of samples, or the masks were not kept.
        """
        inside = self.placement.seen
        rows, columns = slice(inside.y, inside.y + inside.height), slice(inside.x, inside.x + inside.width)
        return representatives(self.masks[..., rows, columns], count)
