"""Open PNG, JPEG, TIFF and BMP files with Pillow, guarded; for images and for training masks alike.

No other format of Pillow's is tried, whatever a file is called: some of them run other programs. Sizes are checked before anything
is decoded. Pillow's settings are not changed, its warnings do not reach the caller, and whatever it raises becomes an ImageError.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image, ImageFile, TiffImagePlugin, UnidentifiedImageError

from medseg_runtime.errors import ImageError
from medseg_runtime.readers.codestream import START_OF_IMAGE
from medseg_runtime.readers.raster.bounds import check_bounds, check_profiles
from medseg_runtime.readers.raster.deep_color import set_raw_mode
from medseg_runtime.readers.raster.jpeg import read_coding
from medseg_runtime.readers.silence import warnings_muted
from medseg_runtime.readers.source import DAMAGED, READABLE, check_size

FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
BITS_PER_SAMPLE, PLANAR, ORIENTATION = 258, 284, 274  # TIFF 6.0 and EXIF tags
SEPARATE_PLANES = 2
TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
NATIVE_ORDER = {"I;16BS": "I;16NS", "I;32BS": "I;32NS", "F;32BF": "F;32NF"}
"""What libtiff returns for big-endian files, which Pillow takes to be big-endian still."""


def open_picture(content: bytes) -> ImageFile.ImageFile:
    """Open a file whose header is accepted; its pixels are not decoded. Call it inside `pillow_errors`."""
    check_profiles(content)
    if content.startswith(START_OF_IMAGE):
        read_coding(content)  # Pillow would call a coding that it does not know damaged
    picture = Image.open(io.BytesIO(content), formats=FORMATS)
    check_size(*picture.size)
    check_bounds(picture, content)
    kind = kind_of(picture)
    if kind != "JPEG" and getattr(picture, "is_animated", False):  # `n_frames` walks all pages of a TIFF
        raise ImageError(f"the {kind} holds several images", "Save the one to segment as its own file.")
    if isinstance(picture, TiffImagePlugin.TiffImageFile):
        _mend_tiff(picture)
    return picture


def kind_of(picture: ImageFile.ImageFile) -> str:
    """Return PNG, JPEG, TIFF or BMP."""
    # Pillow calls a JPEG with several images MPO; the others are mostly previews and depth maps of the first.
    return "JPEG" if picture.format == "MPO" else str(picture.format)


def bits_per_channel(picture: ImageFile.ImageFile, content: bytes) -> int:
    """Return the bits of a channel as stored."""
    if picture.format == "PNG":
        return content[24]  # IHDR: length, type, width, height, then the bit depth
    if isinstance(picture, TiffImagePlugin.TiffImageFile):
        return int(picture.tag_v2.get(BITS_PER_SAMPLE, (1,))[0])
    return 8


def orientation_of(picture: ImageFile.ImageFile) -> int:
    """Return the EXIF or TIFF orientation, 1 to 8; 1 if there is none."""
    try:
        orientation = int(picture.getexif().get(ORIENTATION, 1))
    except Exception:  # noqa: BLE001 - damaged EXIF does not matter for the pixels
        return 1
    return orientation if 1 <= orientation <= 8 else 1


def check_whole(picture: ImageFile.ImageFile, content: bytes) -> Iterator[str]:
    """Refuse a PNG or JPEG that lacks pixels, which Pillow decodes in silence; yield a warning where only detail is missing.

    picture: decoded.

    Raises:
        ImageError: pixels are missing.
    """
    if picture.format == "PNG":
        Image.open(io.BytesIO(content), formats=FORMATS).verify()  # decoding alone skips the pixels' checksums
    if kind_of(picture) != "JPEG" or (coding := read_coding(content)) is None:
        return
    if coding.unfinished:
        yield "the JPEG ends before its last scan, and lacks fine detail"
    padded = Image.open(io.BytesIO(coding.padded(content)), formats=FORMATS)
    if not coding.arithmetic and not np.array_equal(np.asarray(padded), np.asarray(picture)):
        raise ImageError("the JPEG lacks a part of its picture", DAMAGED)


@contextmanager
def pillow_errors(content: bytes, *, expected_dicom: bool = False) -> Iterator[None]:
    """Raise ImageError for any exception of Pillow inside the block, and ignore its warnings.

    expected_dicom: the file's name ends in .dcm; only changes an error message.
    """
    with warnings_muted():
        try:
            yield
        except ImageError:
            raise
        except UnidentifiedImageError as error:
            raise _unidentified(content, expected_dicom) from error
        except Image.DecompressionBombError as error:
            raise ImageError("the image is too large", "Give a crop of it.") from error
        except MemoryError as error:
            raise ImageError("the image does not fit into memory", "Give a crop of it.") from error
        except (
            Exception
        ) as error:  # for damaged files OSError, SyntaxError, ValueError, IndexError, struct.error and more
            raise ImageError("the image is damaged or cut short", DAMAGED) from error


def _unidentified(content: bytes, expected_dicom: bool) -> ImageError:
    if expected_dicom:
        return ImageError(
            "the file is not DICOM: it lacks the DICM mark at byte 128", "Save it as DICOM Part 10, or as PNG."
        )
    if content.startswith(TIFF_MAGIC):
        return ImageError(
            "the TIFF is cut short, or its channels are of a number or type that is not decoded here",
            "Save it as grey of 8, 16 or 32 bits, or as RGB of 8 or 16 bits.",
        )
    return ImageError("the file is not an image in one of the supported formats, or its header is damaged", READABLE)


def _mend_tiff(picture: TiffImagePlugin.TiffImageFile) -> None:
    """Refuse missing pixels and planes that Pillow confuses, and correct the byte order of what libtiff decodes."""
    bits = picture.tag_v2.get(BITS_PER_SAMPLE, (1,))
    separate = picture.tag_v2.get(PLANAR) == SEPARATE_PLANES and len(bits) > 1
    if separate and (bits[0] != 8 or len(bits) < 3):
        raise ImageError(
            "the TIFF keeps its channels in separate planes",
            "Save it with interleaved channels: `tiffcp -p contig IN.tif OUT.tif`.",
        )
    extents = [tile.extents for tile in picture.tile if tile.extents is not None]
    covered = sum((right - left) * (lower - upper) for left, upper, right, lower in extents)
    if covered < picture.width * picture.height:  # Pillow leaves the rest black
        raise ImageError("the TIFF lacks a part of its picture", DAMAGED)
    tile = picture.tile[0] if picture.tile else None
    if tile is not None and tile.codec_name == "libtiff" and isinstance(tile.args, tuple):
        set_raw_mode(picture, NATIVE_ORDER.get(tile.args[0], tile.args[0]))
