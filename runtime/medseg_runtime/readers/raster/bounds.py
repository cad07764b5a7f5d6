"""Refuse PNG, JPEG and TIFF files that would take a decoder far more time or memory than their size in pixels says."""

from __future__ import annotations

import struct

from PIL import ImageFile, TiffImagePlugin

from medseg_runtime.errors import ImageError
from medseg_runtime.readers.codestream import MAX_WORK, START_OF_IMAGE, parse_codestream
from medseg_runtime.readers.source import DAMAGED

TILE_WIDTH, TILE_LENGTH = 322, 323
"""TIFF 6.0 tags."""
MAX_TILE_PIXELS = 1 << 24
"""Of a tile that is larger than the image: libtiff allocates a whole one."""
PNG = b"\x89PNG\r\n\x1a\n"


def check_profiles(content: bytes) -> None:
    """Check a file before Pillow opens it: Pillow inflates each color profile of a PNG, of which there may be one.

    Raises:
        ImageError: a PNG with several.
    """
    position, profiles = len(PNG), 0
    while content.startswith(PNG) and position + 8 <= len(content):
        length, name = struct.unpack_from(">I4s", content, position)
        profiles += name == b"iCCP"
        position += 12 + length
    if profiles > 1:
        raise ImageError("the PNG has several color profiles", DAMAGED)


def check_bounds(picture: ImageFile.ImageFile, content: bytes) -> None:
    """Check a file that Pillow has opened, before its pixels are decoded.

    Raises:
        ImageError: a JPEG of another size than Pillow read, or with too many scans; TIFF tiles much larger than the picture.
    """
    if content.startswith(START_OF_IMAGE):
        _check_jpeg(picture, content)
    elif isinstance(picture, TiffImagePlugin.TiffImageFile):
        _check_tiles(picture)


def _check_jpeg(picture: ImageFile.ImageFile, content: bytes) -> None:
    stream = parse_codestream(content)
    if stream is None or (stream.width, stream.height) != picture.size:
        raise ImageError("the JPEG's header is damaged", DAMAGED)
    if stream.work > MAX_WORK:
        raise ImageError("the JPEG has too many scans for its size", "Save it anew, not progressive.")


def _check_tiles(picture: TiffImagePlugin.TiffImageFile) -> None:
    sides = [int(picture.tag_v2.get(tag, 0)) for tag in (TILE_WIDTH, TILE_LENGTH)]
    if sides[0] * sides[1] > max(MAX_TILE_PIXELS, picture.width * picture.height):
        raise ImageError("the TIFF's tiles are much larger than its picture", "Save it anew, in strips.")
