"""The image and the confidence as screen arrays (h, w, 3) uint8: numpy and Pillow, no plotting library.

photograph   the image itself
colored     the confidence over the dimmed photograph
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from medseg_runtime.figures.viewport import Canvas, Float32, Viewport
from medseg_runtime.model.preprocess import Box, Pixels

Window = tuple[float, float]
"""The values that are shown as black and as white."""

INFERNO = np.array(
    [
        (0, 0, 4), (22, 11, 57), (66, 10, 104), (106, 23, 110), (147, 38, 103), (188, 55, 84),
        (221, 81, 58), (243, 120, 25), (252, 165, 10), (246, 215, 70), (252, 255, 164),
    ],
    np.float64,
)  # fmt: skip
"""matplotlib's inferno (CC0) at 0, 0.1 ... 1: perceptually uniform, brighter is more."""
INFERNO_FROM = 0.12
"""Position of the value 0: the black end would look like a dark image."""
SHADES = 255
"""Number of confidence shades, more than the eye distinguishes."""
_POSITIONS = np.linspace(INFERNO_FROM, 1.0, SHADES + 1) * (len(INFERNO) - 1)
_RAMP = np.stack([np.interp(_POSITIONS, np.arange(len(INFERNO)), INFERNO[:, c]) for c in range(3)], axis=-1)
"""Color of each shade, a lookup table."""
_COVERING = np.rint(0.9 * _RAMP).astype(np.uint8)
"""The shades at 90 % opacity."""


def photograph(pixels: Pixels, view: Viewport) -> Canvas:
    """Render the image, windowed by what the view shows of it."""
    box = view.box
    visible = eight_bit(pixels[box.y : box.y + box.height, box.x : box.x + box.width], window_of(pixels, box))
    method = Image.Resampling.BICUBIC if view.scale > 1 else Image.Resampling.BOX
    return np.array(Image.fromarray(visible).resize(view.size, method).convert("RGB"))


def window_of(pixels: Pixels, box: Box) -> Window | None:
    """Return the values to show as black and as white: the 0.5 and 99.5 percentile of a box in the image.

    None for color of 8 bits, which is shown as it is.
    """
    if pixels.ndim == 3 and pixels.dtype == np.uint8:
        return None
    visible = pixels[box.y : box.y + box.height, box.x : box.x + box.width]
    ends = np.rint(np.array((0.005, 0.995)) * (visible.size - 1)).astype(int)
    # np.percentile would import numpy.ma, which is slow
    low, high = np.partition(visible.reshape(-1), ends)[ends].astype(np.float64).tolist()
    return low, high


def eight_bit(pixels: Pixels, window: Window | None) -> npt.NDArray[np.uint8]:
    """Return pixels from 0 to 255: scaled by a window, or without one as they are."""
    if window is None:
        return pixels.astype(np.uint8, copy=False)
    low, high = window
    span = high - low if high > low else 1.0
    return np.clip(255.0 * (pixels.astype(np.float64) - low) / span, 0, 255).astype(np.uint8)


def inferno(values: Float32) -> Canvas:
    """Return the colors of values in [0, 1]: (...) => (..., 3)."""
    return np.rint(_RAMP[_shades(values)]).astype(np.uint8)


def colored(photo: Canvas, values: Float32, view: Viewport) -> Canvas:
    """Dim the photograph to a half, and color it where a map (H, W) in [0, 1] is not 0.

    photo: of the same view.
    """
    canvas = photo // 2
    shades = np.asarray(view.nearest(_shades(values)), np.uint8).reshape(-1)
    marked = np.flatnonzero(shades > 0)
    pixels = canvas.reshape(-1, 3)
    pixels[marked] = pixels[marked] // 10 + _COVERING[shades[marked]]
    return canvas


def _shades(values: Float32) -> npt.NDArray[np.uint8]:
    """Return the shade of each value; only 0 has shade 0."""
    return np.ceil(np.clip(values, 0, 1) * SHADES).astype(np.uint8)
