"""PNG, JPEG and TIFF, by way of Pillow.

    bytes => header, checked => decoded picture => (H, W) or (H, W, 3) as stored

Less usual kinds:

    1-bit                       0 and 255
    palette, CMYK, YCbCr, Lab   RGB
    alpha                       composited on black; warned of
    16-bit grey, 32-bit, float  kept; a white-is-zero TIFF is inverted, so that larger is brighter
    16-bit color               8 bits a channel, because Pillow decodes no more; warned of
    EXIF orientation            not applied, so that masks fit the stored pixels; warned of
    several images              refused (animation, TIFF pages); of a JPEG with several the first is read

Pillow's settings are not changed, and its warnings do not reach the caller.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image, ImageFile, TiffImagePlugin, UnidentifiedImageError

from medseg_runtime.errors import ImageError
from medseg_runtime.machine.memory import memory_to_decode
from medseg_runtime.model.preprocess import Pixels, as_image
from medseg_runtime.readers.bounds import check_bounds, check_profiles
from medseg_runtime.readers.silence import warnings_muted
from medseg_runtime.readers.source import READABLE, SourceImage, check_size

FORMATS = ("PNG", "JPEG", "TIFF")
DAMAGED = "Copy the file again, or save it anew from the program it comes from."
BITS_PER_SAMPLE, PHOTOMETRIC, ORIENTATION, SAMPLE_FORMAT = 258, 262, 274, 339  # TIFF 6.0 and EXIF tags
UNSIGNED, SIGNED = 1, 2
WHITE_IS_ZERO = 0
WITH_ALPHA = {"RGBA", "RGBa", "LA", "La", "PA"}

_UNDO_ORIENTATION: dict[int, Callable[[Pixels], Pixels]] = {
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.swapaxes(0, 1),
    6: np.rot90,
    7: lambda upright: upright[::-1, ::-1].swapaxes(0, 1),
    8: lambda upright: np.rot90(upright, -1),
}
"""Undo the EXIF orientation that Pillow applies to TIFFs while decoding: (H, W) or (H, W, 3) => as stored."""


def read_raster(content: bytes, sha256: str, *, expected_dicom: bool = False) -> SourceImage:
    """Decode the bytes of a PNG, JPEG or TIFF file.

    expected_dicom: the file's name ends in .dcm; only changes an error message.

    Raises:
        ImageError: another format, damaged, several images, too small or too large.
    """
    check_profiles(content)
    with (
        _pillow_errors(expected_dicom),
        Image.open(io.BytesIO(content), formats=FORMATS) as picture,
        memory_to_decode() as promise,
    ):
        # Pillow calls a JPEG with several images MPO; the others are mostly previews and depth maps of the first.
        kind = "JPEG" if picture.format == "MPO" else str(picture.format)
        check_size(*picture.size)
        check_bounds(picture, content)
        promise(*picture.size)
        if kind != "JPEG" and getattr(picture, "is_animated", False):  # `n_frames` walks all pages of a TIFF
            raise ImageError(f"the {kind} holds several images", "Save the one to segment as its own file.")
        if kind == "PNG":
            Image.open(io.BytesIO(content), formats=FORMATS).verify()  # decoding alone skips the pixels' checksums
        notes = list(_notes(picture, content))
        orientation = _orientation(picture)
        picture.load()
        pixels = _pixels(picture, notes)
    if kind == "TIFF" and orientation in _UNDO_ORIENTATION:
        pixels = np.ascontiguousarray(_UNDO_ORIENTATION[orientation](pixels))
    return SourceImage(pixels=as_image(pixels), sha256=sha256, kind=kind, warnings=tuple(notes))


@contextmanager
def _pillow_errors(expected_dicom: bool) -> Iterator[None]:
    """Raise ImageError for any exception of Pillow inside the block, and ignore its warnings."""
    with warnings_muted():
        try:
            yield
        except ImageError:
            raise
        except UnidentifiedImageError as error:
            if expected_dicom:
                raise ImageError(
                    "the file is not DICOM: it lacks the DICM mark at byte 128", "Save it as DICOM Part 10, or as PNG."
                ) from error
            raise ImageError(
                "the file is not an image in one of the supported formats, or its header is damaged", READABLE
            ) from error
        except Image.DecompressionBombError as error:
            raise ImageError("the image is too large", "Give a crop of it.") from error
        except MemoryError as error:
            raise ImageError("the image does not fit into memory", "Give a crop of it.") from error
        except (
            Exception
        ) as error:  # for damaged files OSError, SyntaxError, ValueError, IndexError, struct.error and more
            raise ImageError("the image is damaged or cut short", DAMAGED) from error


def _notes(picture: ImageFile.ImageFile, content: bytes) -> Iterator[str]:
    """Yield warnings about how the image is read."""
    if picture.format == "MPO":
        yield "the JPEG holds several images, and the first was read"
    if _orientation(picture) in _UNDO_ORIENTATION:
        yield "the EXIF orientation was not applied: masks are in the grid of the stored pixels"
    if picture.mode in ("RGB", "RGBA", "RGBX", "CMYK") and _bits_per_sample(picture, content) == 16:
        yield "colors of 16 bits were read with 8"


def _orientation(picture: ImageFile.ImageFile) -> int:
    try:
        return int(picture.getexif().get(ORIENTATION, 1))
    except Exception:  # noqa: BLE001 - damaged EXIF does not matter for the pixels
        return 1


def _bits_per_sample(picture: ImageFile.ImageFile, content: bytes) -> int:
    if picture.format == "PNG":
        return content[24]  # IHDR: length, type, width, height, then the bit depth
    if isinstance(picture, TiffImagePlugin.TiffImageFile):
        return int(picture.tag_v2.get(BITS_PER_SAMPLE, (1,))[0])
    return 8


def _pixels(picture: ImageFile.ImageFile, notes: list[str]) -> Pixels:
    """Decoded picture => (H, W) or (H, W, 3)."""
    mode = picture.mode
    if mode.startswith("I") or mode == "F":
        return _deep_grey(picture)
    if mode in WITH_ALPHA or "transparency" in picture.info:
        return _on_black(picture.convert("RGBA"), grey=mode in ("1", "L", "LA", "La"), notes=notes)
    if mode in ("1", "L"):
        grey = np.asarray(picture.convert("L"))
        return grey.view(np.int8) if _sample_format(picture) == SIGNED else grey
    return np.asarray(picture.convert("RGB"))


def _sample_format(picture: Image.Image) -> int:
    """Return the sample format of a TIFF. Pillow ignores it for 8 bits."""
    if not isinstance(picture, TiffImagePlugin.TiffImageFile):
        return UNSIGNED
    return int(picture.tag_v2.get(SAMPLE_FORMAT, (UNSIGNED,))[0])


def _on_black(picture: Image.Image, *, grey: bool, notes: list[str]) -> Pixels:
    values = np.asarray(picture, np.uint16)
    alpha = values[:, :, 3:]
    if (alpha < 255).any():
        notes.append("the image is partly transparent, and was composited on black")
    colors = ((values[:, :, :3] * alpha + 127) // 255).astype(np.uint8)
    return colors[:, :, 0] if grey else colors


def _deep_grey(picture: ImageFile.ImageFile) -> Pixels:
    """More than 8 bits of grey => uint16, int32, uint32 or float32 in the machine's byte order, larger is brighter."""
    values = np.asarray(picture)
    values = values.astype(values.dtype.newbyteorder("="))
    if isinstance(picture, TiffImagePlugin.TiffImageFile):
        tags = picture.tag_v2
        if values.dtype == np.int32 and _sample_format(picture) == UNSIGNED:
            values = values.view(np.uint32)  # Pillow decodes unsigned 32-bit numbers as signed
        if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO:
            values = np.iinfo(np.uint16).max - values if values.dtype == np.uint16 else -values
    return values
