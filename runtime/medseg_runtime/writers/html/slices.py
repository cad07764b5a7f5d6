"""One slice or frame as a report carries it: its pictures, its masks, and what is counted in them.

The part of the image that the network saw, with a margin, lies in front of the whole image, which is small. Where that part is large, as in
a photograph, pictures and masks are reduced to `LONGEST` pixels. All numbers are counted before.
"""

from __future__ import annotations

import base64
import io
import math
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from medseg_runtime.figures.overlay import with_class_axis
from medseg_runtime.figures.photo import Window, eight_bit
from medseg_runtime.model.preprocess import Box, Pixels
from medseg_runtime.result.segmentation import Segmentation
from medseg_runtime.writers.png import png

Bool = npt.NDArray[np.bool_]
Float32 = npt.NDArray[np.float32]

LONGEST = 1024
"""Longer side, in pixels, of a picture and of masks."""
BACKGROUND = 320
"""Longer side of the whole image behind the part that the network saw; of many slices `SMALL_BACKGROUND`."""
SMALL_BACKGROUND = 192
LOSSLESS = 1 << 14
"""Pixels of the largest picture that is carried without loss."""
MARGIN = 0.25
"""Around the part that the network saw, as a share of its sides."""
QUALITY, BACKGROUND_QUALITY = 85, 70
"""Of JPEG."""


def carried(
    result: Segmentation,
    window: Window | None,
    home: Box,
    *,
    label: str = "",
    longest: int = LONGEST,
    background: int = BACKGROUND,
) -> dict[str, Any]:
    """Return a slice for `report.js`.

    window: what is black and white, from `photo.window_of`. home: what is shown at first. label: which slice it is.
    longest, background: the most pixels of a side, of the part that the network saw and of the whole image.
    """
    masks, confidence, _ = with_class_axis(result)
    seen = result.placement.seen
    inside = masks[:, :, seen.y : seen.y + seen.height, seen.x : seen.x + seen.width]
    step = step_of(result, longest)
    reduced = _reduced(inside, step)
    return {
        "label": label,
        "box": {"x": seen.x, "y": seen.y, "width": step * reduced.shape[3], "height": step * reduced.shape[2]},
        "step": step,
        "masks": _bits(reduced),
        "pictures": list(_pictures(result.source.pixels, _around(seen, home), window, longest, background)),
        "areas": result.areas.reshape(result.samples, -1).T.tolist(),
        "above": [_above(each, result.samples) for each in confidence],
    }


def step_of(result: Segmentation, longest: int = LONGEST) -> int:
    """Return how many image pixels are one pixel of the masks that a report carries, along each side."""
    return math.ceil(max(result.placement.seen.width, result.placement.seen.height) / longest)


def _reduced(masks: Bool, step: int) -> Bool:
    """Take the middle of each `step` x `step` pixels: (N, F, H, W) => (N, F, rows, columns)."""
    height, width = masks.shape[2:]
    rows = np.minimum(np.arange(0, height, step) + step // 2, height - 1)
    columns = np.minimum(np.arange(0, width, step) + step // 2, width - 1)
    return masks[:, :, rows[:, None], columns]


def _bits(masks: Bool) -> str:
    bits = np.packbits(masks.reshape(*masks.shape[:2], -1), axis=2)
    return _text(zlib.compress(bits.tobytes(), 9))


def _above(confidence: Float32, samples: int) -> list[int]:
    """Return how many pixels at least 0, 1 ... N samples contain; confidence (H, W)."""
    counts = np.rint(samples * confidence).astype(np.int64)
    above: list[int] = np.bincount(counts.reshape(-1), minlength=samples + 1)[::-1].cumsum()[::-1].tolist()
    return above


def _pictures(pixels: Pixels, near: Box, window: Window | None, longest: int, background: int) -> list[dict[str, Any]]:
    """Return the whole image, and in front of it a part; only the first if that is all of it."""
    height, width = pixels.shape[:2]
    whole = Box(x=0, y=0, width=width, height=height)
    near = near.clipped(height, width)
    front = _picture(pixels, near, window, longest, QUALITY)
    return [front] if near == whole else [_picture(pixels, whole, window, background, BACKGROUND_QUALITY), front]


def _around(seen: Box, home: Box) -> Box:
    """Return the box round two boxes, the first with a margin."""
    margin_x, margin_y = math.ceil(MARGIN * seen.width), math.ceil(MARGIN * seen.height)
    x, y = min(seen.x - margin_x, home.x), min(seen.y - margin_y, home.y)
    right = max(seen.x + seen.width + margin_x, home.x + home.width)
    bottom = max(seen.y + seen.height + margin_y, home.y + home.height)
    return Box(x=x, y=y, width=right - x, height=bottom - y)


def _picture(pixels: Pixels, box: Box, window: Window | None, longest: int, quality: int) -> dict[str, Any]:
    part = eight_bit(pixels[box.y : box.y + box.height, box.x : box.x + box.width], window)
    scale = min(longest / max(box.width, box.height), 1.0)
    if scale == 1.0 and box.width * box.height <= LOSSLESS:
        content = png(np.ascontiguousarray(part))
    else:
        size = max(round(scale * box.width), 1), max(round(scale * box.height), 1)
        content = _jpeg(Image.fromarray(part).resize(size, Image.Resampling.BOX), quality)
    return {"x": box.x, "y": box.y, "width": box.width, "height": box.height, "content": _text(content)}


def _jpeg(picture: Image.Image, quality: int) -> bytes:
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=quality, optimize=True)
    return content.getvalue()


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()
