"""Encode and decode masks, and average the overlap with the original over masks of each size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from medseg_runtime.result import metrics
from medseg_trainer.data.masks import Labels
from medseg_trainer.evaluation.statistics import Figure, averages
from medseg_trainer.models.autoencoder import MaskAutoencoder

Bool = npt.NDArray[np.bool_]
NOISE = (0.0, 0.3)
"""Standard deviations of the noise added to the latent, whose own is 1. It stands for the error of a sampler."""
SIZES: dict[str, tuple[int, float]] = {
    "all": (1, np.inf),
    "under 20 px": (1, 20),
    "20 to 49 px": (20, 50),
    "50 to 149 px": (50, 150),
    "150 px and more": (150, np.inf),
}
"""Name => smallest size, and the size at which the next range begins; in pixels."""
FIRST: Final = "cross_entropy"
SECOND: Final = "mse"


@dataclass(frozen=True, slots=True)
class Reconstructed:
    """One rater's mask, and its overlap with each reconstruction."""

    patient: str
    size: int
    """Pixels."""
    overlaps: dict[tuple[str, float], tuple[float, float]]
    """By autoencoder and noise: Dice and IoU."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskRow:
    """Masks of one size at one level of noise. Figures: `cross_entropy`, `mse`, and `difference`, the first minus the second."""

    noise: float
    sizes: str
    masks: int
    patients: int
    dice: dict[str, Figure]
    iou: dict[str, Figure]


def reconstruct(
    pair: Mapping[str, MaskAutoencoder], cases: Iterable[tuple[str, Labels]], seed: int
) -> Iterator[Reconstructed]:
    """Reconstruct masks with both autoencoders, with the same noise added to their latents.

    pair: by `FIRST` and `SECOND`. cases: patient and masks (R, H, W) of one class; empty masks are skipped.
    """
    generator = torch.Generator().manual_seed(seed)
    for patient, labels in cases:
        marked = labels[labels.any(axis=(1, 2))]
        if not len(marked):
            continue
        found = _through(pair, marked, generator)
        for k, mask in enumerate(marked > 0):
            overlaps = {
                way: (metrics.dice(masks[k], mask), metrics.iou(masks[k], mask)) for way, masks in found.items()
            }
            yield Reconstructed(patient, int(mask.sum()), overlaps)


@torch.inference_mode()
def _through(
    pair: Mapping[str, MaskAutoencoder], marked: Labels, generator: torch.Generator
) -> dict[tuple[str, float], Bool]:
    """Return the reconstructions of masks (M, H, W), by autoencoder and noise."""
    labels = torch.from_numpy(marked)
    latents = {name: autoencoder.encode(labels) for name, autoencoder in pair.items()}
    noise = torch.randn(latents[FIRST].shape, generator=generator)
    return {
        (name, level): np.asarray(autoencoder.decode(latents[name] + level * noise)[:, 0] > 0)
        for name, autoencoder in pair.items()
        for level in NOISE
    }


def mask_rows(found: list[Reconstructed]) -> Iterator[MaskRow]:
    """Yield averages over the masks of each size, at each level of noise."""
    for level in NOISE:
        for sizes, (least, beyond) in SIZES.items():
            chosen = [one for one in found if least <= one.size < beyond]
            if chosen:
                yield MaskRow(
                    noise=level,
                    sizes=sizes,
                    masks=len(chosen),
                    patients=len({one.patient for one in chosen}),
                    dice=_compared(chosen, level, 0),
                    iou=_compared(chosen, level, 1),
                )


def _compared(chosen: list[Reconstructed], level: float, which: int) -> dict[str, Figure]:
    pairs = [(one.patient, one.overlaps[FIRST, level][which], one.overlaps[SECOND, level][which]) for one in chosen]
    return averages([(patient, {FIRST: a, SECOND: b, "difference": a - b}) for patient, a, b in pairs])
