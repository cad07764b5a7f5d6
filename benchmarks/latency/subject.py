"""A bundle that is measured, and what its networks cost; without torch, so that processes that measure need none."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medseg_runtime.model.preprocess import Pixels
from medseg_runtime.model.signatures import GraphName


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """Multiply-accumulates of one call of a network on N samples."""

    common: int
    """Whatever N is: the encoder; in the denoiser, the convolution of the condition."""
    per_sample: int

    def of(self, samples: int) -> int:
        """Return those of a call on so many samples."""
        return self.common + samples * self.per_sample


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
    """Side of what the network sees, in pixels."""
    image: int
    """Side of the image that the segmenter is given, in pixels."""
    default_steps: int
    costs: dict[GraphName, Cost]
    """Of one call of each graph."""

    @property
    def path(self) -> Path:
        """The bundle's folder."""
        return Path(self.folder)

    def of_a_run(self, samples: int, steps: int) -> int:
        """Count the multiply-accumulates of a whole run: an encoding, S steps and a decoding, each on all N samples."""
        cost = self.costs
        return cost["encoder"].of(1) + steps * cost["denoiser"].of(samples) + cost["decoder"].of(samples)

    def picture(self) -> Pixels:
        """Return an image to segment: a soft disc on a textured ground, (H, W) or (H, W, 3), 8-bit."""
        row, column = np.mgrid[: self.image, : self.image]
        distance = np.hypot(row - self.image / 2, column - self.image / 2)
        texture = np.random.default_rng(0).normal(0.0, 8.0, distance.shape)
        disc = 150.0 / (1.0 + np.exp((distance - self.image / 16) / 2.0))
        grey = np.clip(40.0 + disc + texture, 0.0, 255.0).astype(np.uint8)
        return grey if self.channels == 1 else np.repeat(grey[:, :, None], 3, axis=2)
