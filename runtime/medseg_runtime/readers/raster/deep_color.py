"""Colors of 16 bits a channel, which Pillow decodes with 8.

Pillow takes the first or the second byte of each number, as the name of the raw mode says. Both are decoded, and put together:

    file => high bytes (H, W, C) and low bytes (H, W, C) => uint16 (H, W, C)
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import ImageFile

from medseg_runtime.errors import ImageError

UInt16 = npt.NDArray[np.uint16]
NATIVE = "L" if sys.byteorder == "little" else "B"
OTHER = {"B": "L", "L": "B"}
CHANNELS = ("RGB", "RGBX", "RGBA")


def read_deep_color(opened: Callable[[], ImageFile.ImageFile]) -> UInt16:
    """Decode a picture of 16-bit channels: (H, W, 2) grey with alpha, (H, W, 3) RGB or (H, W, 4) RGBA.

    opened: opens the file; its pixels are not decoded yet.

    Raises:
        ImageError: the channels are stored in another way.
    """
    picture = opened()
    stored = _raw_mode(picture)
    if (picture.mode, stored) == ("RGBA", "LA;16B"):  # four bytes a pixel: two of grey, two of alpha
        return np.ascontiguousarray(_decoded(picture, "RGBA")).view(">u2").astype(np.uint16)
    channels, _, order = stored.replace("RGBa", "RGBA").partition(";16")
    order = NATIVE if order == "N" else order
    if channels not in CHANNELS or order not in OTHER:
        raise ImageError("the colors have 16 bits, and are not RGB", "Save the image as RGB or as grey.")
    high = _decoded(picture, f"{channels};16{order}")
    low = _decoded(opened(), f"{channels};16{OTHER[order]}")
    values: UInt16 = np.left_shift(high, 8, dtype=np.uint16) | low
    return values[:, :, :3] if stored.startswith("RGBa") else values  # multiplied by alpha: as they are on black


def _raw_mode(picture: ImageFile.ImageFile) -> str:
    arguments = picture.tile[0].args if picture.tile else ""
    return str(arguments[0] if isinstance(arguments, tuple) else arguments)


def _decoded(picture: ImageFile.ImageFile, raw_mode: str) -> npt.NDArray[np.uint8]:
    set_raw_mode(picture, raw_mode)
    picture.load()
    return np.asarray(picture)


def set_raw_mode(picture: ImageFile.ImageFile, raw_mode: str) -> None:
    """Change how the bytes of a file become pixels, before they are decoded."""
    picture.tile = [
        tile._replace(args=(raw_mode, *tile.args[1:]) if isinstance(tile.args, tuple) else raw_mode)
        for tile in picture.tile
    ]
