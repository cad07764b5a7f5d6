"""PNG, JPEG, TIFF and BMP: what a file stores, and the image that it shows.

    bytes => header, checked => stored values => (H, W) or (H, W, 3)

Less usual kinds:

    1-bit                       0 and 255
    palette, CMYK, YCbCr, Lab   RGB
    alpha                       composited on black; warned of
    16-bit grey, 32-bit, float  kept; a white-is-zero TIFF is inverted, so that larger is brighter
    16-bit color               kept; grey if its three channels are equal
    EXIF orientation            not applied, so that masks fit the stored pixels; warned of
    several images              refused (animation, TIFF pages); of a JPEG with several the first is read
    separate planes             refused, unless they are 8-bit color
    JPEG that lacks pixels      refused; warned of if only scans that refine it are missing
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile, TiffImagePlugin

from medseg_runtime.machine.memory import memory_to_decode
from medseg_runtime.model.preprocess import Pixels, as_image
from medseg_runtime.readers.raster.deep_color import read_deep_color
from medseg_runtime.readers.raster.picture import (
    bits_per_channel,
    check_whole,
    kind_of,
    open_picture,
    orientation_of,
    pillow_errors,
)
from medseg_runtime.readers.source import SourceImage

PHOTOMETRIC, EXTRA_SAMPLES, SAMPLE_FORMAT = 262, 338, 339  # TIFF 6.0 tags
UNSPECIFIED = 0
"""Of an extra sample that is no opacity."""
UNSIGNED, SIGNED = 1, 2
WHITE_IS_ZERO = 0
LOSSY = ("jpeg", "webp")
"""Compressions of a TIFF that change its values."""

Alpha = npt.NDArray[np.uint8 | np.uint16]

_UNDO_ORIENTATION: dict[int, Callable[[Pixels], Pixels]] = {
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.swapaxes(0, 1),
    6: np.rot90,
    7: lambda upright: upright[::-1, ::-1].swapaxes(0, 1),
    8: lambda upright: np.rot90(upright, -1),
}
"""Undo the orientation that Pillow applies to TIFFs while decoding: (H, W) or (H, W, C) => as stored."""


PIXELS_AT_ONCE = 1 << 16
"""Composited on black together."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Raster:
    """What a file stores: not turned, not composited."""

    values: Pixels
    """(H, W) grey or (H, W, 3) RGB."""
    alpha: Alpha | None
    """(H, W) opacity, from 0 to the highest of its type; None if every pixel is opaque."""
    indices: npt.NDArray[np.uint8] | None
    """(H, W) entries of a palette; None if the file has none."""
    kind: str
    orientation: int
    """EXIF or TIFF, 1 to 8: how a viewer turns it."""
    lossy: bool
    """Whether the compression changes values."""
    white_is_zero: bool
    """Whether the file stores grey with 0 for white. `values` are inverted, so that larger is brighter."""
    warnings: tuple[str, ...]


def decode(content: bytes, *, expected_dicom: bool = False) -> Raster:
    """Decode the bytes of a PNG, JPEG, TIFF or BMP file, of an image or of a mask.

    expected_dicom: the file's name ends in .dcm; only changes an error message.

    Raises:
        ImageError: another format, damaged, several images, too small or too large, or channels that are not decoded here.
    """
    with (
        pillow_errors(content, expected_dicom=expected_dicom),
        open_picture(content) as picture,
        memory_to_decode() as promise,
    ):
        promise(*picture.size)
        kind, orientation, mode = kind_of(picture), orientation_of(picture), picture.mode
        values, alpha = _decoded(picture, content)
        warnings = (*check_whole(picture, content), *_unread(picture))
        indices = np.asarray(picture) if mode == "P" else None
        white_is_zero = _is_white_is_zero(picture)
        lossy = kind == "JPEG" or any(name in str(picture.info.get("compression")) for name in LOSSY)
    turned = orientation if kind == "TIFF" else 1
    alpha = None if alpha is None or alpha.min() == _highest(alpha) else _as_stored(alpha, turned)
    return Raster(
        values=_as_stored(values, turned),
        alpha=alpha,
        indices=None if indices is None else _as_stored(indices, turned),
        kind=kind,
        orientation=orientation,
        lossy=lossy,
        white_is_zero=white_is_zero,
        warnings=warnings,
    )


def read_raster(content: bytes, sha256: str, *, expected_dicom: bool = False) -> SourceImage:
    """Decode an image as the file stores it; see `decode` and `shown`.

    Raises:
        ImageError: see `decode`.
    """
    return shown(decode(content, expected_dicom=expected_dicom), sha256)


def shown(raster: Raster, sha256: str) -> SourceImage:
    """Return the image of a file's values: on black where it is transparent, and not turned.

    Raises:
        ImageError: floats are not finite.
    """
    notes, pixels = list(raster.warnings), raster.values
    if raster.orientation != 1:
        notes.append("the EXIF orientation was not applied: masks are in the grid of the stored pixels")
    if raster.alpha is not None:
        notes.append("the image is partly transparent, and was composited on black")
        pixels = _on_black(pixels, raster.alpha)
    return SourceImage(pixels=as_image(pixels), sha256=sha256, kind=raster.kind, warnings=tuple(notes))


def _as_stored(upright: Any, orientation: int) -> Any:
    """Undo what Pillow does to a TIFF while decoding it: (H, W) or (H, W, C)."""
    undo = _UNDO_ORIENTATION.get(orientation)
    return upright if undo is None else np.ascontiguousarray(undo(upright))


def _highest(alpha: Alpha) -> int:
    return int(np.iinfo(alpha.dtype.type).max)


def _decoded(picture: ImageFile.ImageFile, content: bytes) -> tuple[Pixels, Alpha | None]:
    """Header => values (H, W) or (H, W, 3), and alpha (H, W) if there is one."""
    mode = picture.mode
    if mode in ("RGB", "RGBA", "RGBX", "CMYK") and bits_per_channel(picture, content) == 16:
        return _deep_color(picture, content)
    picture.load()
    if mode.startswith("I") or mode == "F":
        values = _deep_grey(picture)
        key = picture.info.get("transparency")
        return values, None if key is None else _keyed(values != key)
    if mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in picture.info:
        channels = np.asarray(picture.convert("RGBA"))
        return channels[:, :, 0] if mode in ("1", "L", "LA", "La") else channels[:, :, :3], channels[:, :, 3]
    if mode in ("1", "L"):
        grey = np.asarray(picture.convert("L"))
        return grey.view(np.int8) if _sample_format(picture) == SIGNED else grey, None
    return np.asarray(picture.convert("RGB")), None


def _deep_color(picture: ImageFile.ImageFile, content: bytes) -> tuple[Pixels, Alpha | None]:
    key = picture.info.get("transparency")
    channels = read_deep_color(lambda: open_picture(content))
    count = channels.shape[2]
    values = channels[:, :, : count - 1 + count % 2]
    alpha: Alpha | None = channels[:, :, -1] if count % 2 == 0 else None
    if key is not None:
        alpha = _keyed((values != key).any(axis=2))
    if (values == values[:, :, :1]).all():
        values = values[:, :, 0]
    return values, alpha


def _keyed(opaque: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """Return the alpha of a file in which one value is transparent."""
    return np.where(opaque, np.uint8(255), np.uint8(0))


def _unread(picture: ImageFile.ImageFile) -> Iterator[str]:
    """Yield a warning for what a file holds besides the image that is read."""
    if picture.format == "MPO":
        yield "the JPEG holds several images, and the first was read"
    if isinstance(picture, TiffImagePlugin.TiffImageFile) and UNSPECIFIED in picture.tag_v2.get(EXTRA_SAMPLES, ()):
        yield "the TIFF has a channel that is neither color nor opacity, and it was not read"


def _sample_format(picture: Image.Image) -> int:
    """Return the sample format of a TIFF. Pillow ignores it for 8 bits."""
    if not isinstance(picture, TiffImagePlugin.TiffImageFile):
        return UNSIGNED
    return int(picture.tag_v2.get(SAMPLE_FORMAT, (UNSIGNED,))[0])


def _is_white_is_zero(picture: Image.Image) -> bool:
    return isinstance(picture, TiffImagePlugin.TiffImageFile) and picture.tag_v2.get(PHOTOMETRIC) == WHITE_IS_ZERO


def _on_black(values: Pixels, alpha: Alpha) -> Pixels:
    """Composite on black: (H, W) or (H, W, 3) unsigned integers, and alpha (H, W).

    Some rows at a time: the products have 64 bits, and would take more memory than decoding did.
    """
    highest, composited = _highest(alpha), np.empty(values.shape, values.dtype)
    rows = max(1, PIXELS_AT_ONCE // values.shape[1])
    for start in range(0, len(values), rows):
        part = slice(start, start + rows)
        opacity = alpha[part].astype(np.uint64).reshape(-1, values.shape[1], *[1] * (values.ndim - 2))
        composited[part] = (values[part] * opacity + highest // 2) // highest
    return composited


def _deep_grey(picture: ImageFile.ImageFile) -> Pixels:
    """More than 8 bits of grey => uint16, int32, uint32 or float32 in the machine's byte order, larger is brighter."""
    values = np.asarray(picture)
    values = values.astype(values.dtype.newbyteorder("="))
    if isinstance(picture, TiffImagePlugin.TiffImageFile):
        if values.dtype == np.int32 and _sample_format(picture) == UNSIGNED:
            values = values.view(np.uint32)  # Pillow decodes unsigned 32-bit numbers as signed
        if _is_white_is_zero(picture):
            values = np.iinfo(np.uint16).max - values if values.dtype == np.uint16 else -values
    return values
