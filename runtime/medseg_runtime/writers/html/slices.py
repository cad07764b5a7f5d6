"""One slice or frame as a report carries it: its pictures, its masks, and what is counted in them.

The part of the image that the network saw, and a margin, is carried without loss; the whole image behind it is small. Where that part is
large, as in a photograph, pictures and masks are reduced to `LONGEST` pixels. All numbers are counted before.
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

LONGEST = 1024
"""Longer side, in pixels, of a picture and of masks."""
BACKGROUND = 384
"""Longer side of the whole image behind the part that the network saw; of many slices `SMALL_BACKGROUND`."""
SMALL_BACKGROUND = 192
LOSSLESS = 1 << 16
"""Pixels of the largest picture that is carried without loss."""
MARGIN = 0.25
"""Around the part that the network saw, as a share of its sides."""
QUALITY = 82
"""Of JPEG."""


def carried(result: Segmentation, window: Window | None, *, label: str = "", background: int = BACKGROUND) -> dict[str, Any]:
    """Return a slice for `report.js`.

    window: what is black and white, from `photo.window_of`. label: which slice it is. background: longer side of the whole image.
    """
    masks, *_ = with_class_axis(result)
    seen = result.placement.seen
    inside = masks[:, :, seen.y : seen.y + seen.height, seen.x : seen.x + seen.width]
    step = step_of(result)
    reduced = _reduced(inside, step)
    return {
        "label": label,
        "box": {"x": seen.x, "y": seen.y, "width": step * reduced.shape[3], "height": step * reduced.shape[2]},
        "step": step,
        "masks": _bits(reduced),
        "pictures": list(_pictures(result.source.pixels, seen, window, background)),
        "areas": result.areas.reshape(result.samples, -1).T.tolist(),
        "above": [_above(each, result.samples) for each in np.moveaxis(inside, 1, 0)],
    }


def step_of(result: Segmentation) -> int:
    """Return how many image pixels are one pixel of the masks that a report carries, along each side."""
    return math.ceil(max(result.placement.seen.width, result.placement.seen.height) / LONGEST)


def _reduced(masks: Bool, step: int) -> Bool:
    """Take the middle of each `step` x `step` pixels: (N, F, H, W) => (N, F, rows, columns)."""
    height, width = masks.shape[2:]
    rows = np.minimum(np.arange(0, height, step) + step // 2, height - 1)
    columns = np.minimum(np.arange(0, width, step) + step // 2, width - 1)
    return masks[:, :, rows[:, None], columns]


def _bits(masks: Bool) -> str:
    bits = np.packbits(masks.reshape(*masks.shape[:2], -1), axis=2)
    return _text(zlib.compress(bits.tobytes(), 9))


def _above(masks: Bool, samples: int) -> list[int]:
    """Return how many pixels at least 0, 1 ... N samples contain; masks (N, h, w)."""
    pixels = np.bincount(np.count_nonzero(masks, axis=0).reshape(-1), minlength=samples + 1)
    above: list[int] = pixels[::-1].cumsum()[::-1].tolist()
    return above


def _pictures(pixels: Pixels, seen: Box, window: Window | None, background: int) -> list[dict[str, Any]]:
    """Return the whole image, and in front of it the part that the network saw; only the first if that is all of it."""
    height, width = pixels.shape[:2]
    whole = Box(x=0, y=0, width=width, height=height)
    near = _with_margin(seen).clipped(height, width)
    front = _picture(pixels, near, window, LONGEST)
    return [front] if near == whole else [_picture(pixels, whole, window, background), front]


def _with_margin(box: Box) -> Box:
    x, y = math.ceil(MARGIN * box.width), math.ceil(MARGIN * box.height)
    return Box(x=box.x - x, y=box.y - y, width=box.width + 2 * x, height=box.height + 2 * y)


def _picture(pixels: Pixels, box: Box, window: Window | None, longest: int) -> dict[str, Any]:
    part = eight_bit(pixels[box.y : box.y + box.height, box.x : box.x + box.width], window)
    scale = min(longest / max(box.width, box.height), 1.0)
    if scale == 1.0 and box.width * box.height <= LOSSLESS:
        content = png(np.ascontiguousarray(part))
    else:
        size = max(round(scale * box.width), 1), max(round(scale * box.height), 1)
        content = _jpeg(Image.fromarray(part).resize(size, Image.Resampling.BOX))
    return {"x": box.x, "y": box.y, "width": box.width, "height": box.height, "content": _text(content)}


def _jpeg(picture: Image.Image) -> bytes:
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=QUALITY, optimize=True)
    return content.getvalue()


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()
