"""What a file is, by its first bytes."""

from __future__ import annotations

import re
import zlib
from pathlib import Path
from typing import Literal

from medseg_runtime.errors import ImageError
from medseg_runtime.files.read import opened
from medseg_runtime.readers.content import refuse_url
from medseg_runtime.readers.source import READABLE

VolumeKind = Literal["NIfTI", "NRRD", "MetaImage", "NumPy"]

HEAD = 1024
"""Bytes that tell the kind of a file."""
GZIP = b"\x1f\x8b"
ZIP = b"PK\x03\x04"
EMPTY_ZIP = b"PK\x05\x06"
NIFTI_MAGIC = {348: (344, (b"n+1\0", b"ni1\0")), 540: (4, (b"n+2\0\r\n\x1a\n", b"ni2\0\r\n\x1a\n"))}
"""Size of the header -> where its magic is, and what it may be (nifti1.h and nifti2.h)."""
CONTAINERS = re.compile(
    rb"....(ftyp(?!avif|avis|heic|heix|mif1|msf1|jxl )|moov|mdat|wide)"  # MP4, MOV; not the still images of this family
    rb"|RIFF....AVI |\x1a\x45\xdf\xa3"  # AVI; Matroska and WebM
    rb"|\x00\x00\x01\xba|(?:\x47.{187}){2}\x47|OggS|FLV\x01|\x30\x26\xb2\x75\x8e\x66\xcf\x11",  # MPEG-PS, -TS, Ogg, Flash, ASF
    re.DOTALL,
)
"""How files of video containers begin."""
METAIMAGE = re.compile(rb"\s*(ObjectType|NDims|Comment|ObjectSubType)\s*=", re.IGNORECASE)


def head_of(path: Path, remedy: str = READABLE) -> bytes:
    """Return the first bytes of a regular file.

    remedy: how an error's message ends.

    Raises:
        ImageError: it cannot be read.
    """
    refuse_url(path)
    with opened(path, ImageError, remedy, limit=None) as file:
        return file.read(HEAD)


def is_zip(path: Path) -> bool:
    """Tell whether a file is a zip."""
    return head_of(path).startswith((ZIP, EMPTY_ZIP))


def is_video(head: bytes) -> bool:
    """Tell whether a file begins as a video container does."""
    return CONTAINERS.match(head) is not None


def volume_kind(path: Path) -> VolumeKind | None:
    """Return the format of a volume; None if it is none.

    Raises:
        ImageError: the file cannot be read.
    """
    return volume_kind_of(head_of(path))


def volume_kind_of(head: bytes) -> VolumeKind | None:
    """Return the format of a volume by its first bytes; None if it is none."""
    if head.startswith(b"\x93NUMPY"):
        return "NumPy"
    if head.startswith(b"NRRD000"):
        return "NRRD"
    if METAIMAGE.match(head) and b"NDims" in head:
        return "MetaImage"
    return "NIfTI" if is_nifti(unpacked(head)) else None


def unpacked(head: bytes) -> bytes:
    """Return the first bytes of a gzip's content, or of a file that is no gzip."""
    if not head.startswith(GZIP):
        return head
    try:
        return zlib.decompressobj(wbits=31).decompress(head, HEAD)
    except zlib.error:
        return b""


def is_nifti(head: bytes) -> bool:
    """Tell whether bytes begin a NIfTI header, of either byte order."""
    for order in ("little", "big"):
        at, magics = NIFTI_MAGIC.get(int.from_bytes(head[:4], order), (0, ()))
        if any(head[at : at + len(magic)] == magic for magic in magics):
            return True
    return False
