"""The visible part of an image, and its scale on the screen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medseg_runtime.model.preprocess import Box

Bool = npt.NDArray[np.bool_]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Canvas = npt.NDArray[np.uint8]
"""(h, w, 3) screen pixels, contiguous."""
Color = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Viewport:
    """The visible part of an image, and its scale."""

    box: Box
    """Inside the image."""
    scale: float
    """Screen pixels per image pixel; a whole number if 1 or more."""

    @classmethod
    def fitting(cls, box: Box, longest: int) -> Viewport:
        """Return a view of a box whose longer side is about `longest` screen pixels."""
        scale = longest / max(box.width, box.height)
        return cls(box, float(round(scale)) if scale >= 1.0 else scale)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height on the screen."""
        return max(round(self.box.width * self.scale), 1), max(round(self.box.height * self.scale), 1)

    def nearest(self, maps: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """Resample (..., H, W) in the image to (..., h, w) on the screen, nearest neighbor."""
        width, height = self.size
        rows = self.box.y + np.minimum(((np.arange(height) + 0.5) / self.scale).astype(int), self.box.height - 1)
        columns = self.box.x + np.minimum(((np.arange(width) + 0.5) / self.scale).astype(int), self.box.width - 1)
        visible: npt.NDArray[np.generic] = maps.take(rows, axis=-2).take(columns, axis=-1)
        return visible
