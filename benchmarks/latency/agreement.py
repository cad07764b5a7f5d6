"""Compare every backend with ONNX Runtime in float32, on real images, from the same noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.latency.backends import REFERENCE, BackendChoice
from medseg_runtime.model.preprocess import Pixels
from medseg_runtime.result.metrics import dice
from medseg_runtime.result.segmentation import Segmentation

SAMPLES = 16
Bool = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, slots=True)
class Agreement:
    """One backend against the reference."""

    backend: str
    """Name and precision."""
    images: int
    samples: int
    probability_error: float
    """Largest difference of the mean probability map, over all pixels and images."""
    probability_error_p50: float
    """Largest difference over the pixels of an image: median over images."""
    mask_dice: float
    """Mean over all masks; 1 if both are empty."""
    mask_dice_pooled: float
    """Dice of the pixels of all masks together."""
    consensus_dice: float


def compare(bundle: Path, backends: Sequence[BackendChoice], images: Sequence[Pixels]) -> list[Agreement]:
    """Segment every image with every backend, and compare with the reference."""
    reference = _segment(bundle, REFERENCE, images)
    return [_compared(str(one), reference, _segment(bundle, one, images)) for one in backends if one != REFERENCE]


def _segment(bundle: Path, choice: BackendChoice, images: Sequence[Pixels]) -> list[Segmentation]:
    segmenter = choice.open(bundle, None)
    results = [segmenter(image, samples=SAMPLES, seed=0) for image in images]
    segmenter.backend.close()
    return results


def _compared(backend: str, reference: Sequence[Segmentation], results: Sequence[Segmentation]) -> Agreement:
    pairs = list(zip(reference, results, strict=True))
    errors = [float(np.abs(a.mean_probability - b.mean_probability).max()) for a, b in pairs]
    masks = np.concatenate([a.masks for a, _ in pairs]), np.concatenate([b.masks for _, b in pairs])
    return Agreement(
        backend=backend,
        images=len(pairs),
        samples=SAMPLES,
        probability_error=max(errors),
        probability_error_p50=float(np.median(errors)),
        mask_dice=float(np.mean([dice(a, b) for a, b in zip(*masks, strict=True)])),
        mask_dice_pooled=dice(*masks),
        consensus_dice=float(np.mean([dice(a.consensus, b.consensus) for a, b in pairs])),
    )
