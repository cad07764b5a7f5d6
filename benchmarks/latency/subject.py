"""A measured bundle and the multiply-accumulates of its networks; without torch, so that timed processes do not load it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.common.cost import Cost
from medseg_runtime.model.preprocess import Pixels
from medseg_runtime.model.signatures import GraphName


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """A bundle and the multiply-accumulates of its networks."""

    name: str
    folder: str
    sha256: str
    weights: str
    """`trained` or `random`."""
    channels: int
    field: int
    """Side of the field, in pixels."""
    image: int
    """Side of the input image, in pixels."""
    default_steps: int
    costs: dict[GraphName, Cost]
    """Of one call of each graph."""

    @property
    def path(self) -> Path:
        """The bundle's folder."""
        return Path(self.folder)

    def of_a_run(self, samples: int, steps: int) -> int:
        """Return the multiply-accumulates of a run: encoding the image, then S steps and decoding on N samples."""
        cost = self.costs
        return cost["encoder"].of(1) + steps * cost["denoiser"].of(samples) + cost["decoder"].of(samples)

    def picture(self) -> Pixels:
        """Return a synthetic image: a soft disc on a textured background, (H, W) or (H, W, 3) uint8."""
        row, column = np.mgrid[: self.image, : self.image]
        distance = np.hypot(row - self.image / 2, column - self.image / 2)
        texture = np.random.default_rng(0).normal(0.0, 8.0, distance.shape)
        disc = 150.0 / (1.0 + np.exp((distance - self.image / 16) / 2.0))
        gray = np.clip(40.0 + disc + texture, 0.0, 255.0).astype(np.uint8)
        return gray if self.channels == 1 else np.repeat(gray[:, :, None], 3, axis=2)
