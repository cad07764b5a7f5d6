"""Files that people give for images and that no reader here takes: what they are, by their first bytes, and what to do."""

from __future__ import annotations

import re

from medseg_runtime.errors import ImageError
from medseg_runtime.readers.file_kind import GZIP, HEAD, unpacked

UNPACK = "Unpack such files first."
SAVE_AGAIN = "Save such files as DICOM Part 10, for example with dcmtk's `dcmconv`, or export them again."
CONVERT = "Save it as PNG."
ANIMATED = "Save it as PNG, or an animation as MP4."
PACKED = (GZIP, b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")  # gzip, bzip2, xz, zstd
ARCHIVES = (*PACKED, b"7z\xbc\xaf\x27\x1c", b"Rar!")
TAR_MARK = 257, b"ustar"
"""Where a tar has its mark (POSIX.1-1988)."""
OTHERS = (
    (re.compile(rb"GIF8"), "a GIF", ANIMATED),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), "a WebP image", ANIMATED),
    (re.compile(rb"\x00\x00\x00\x0cjP  |\xff\x4f\xff\x51"), "a JPEG 2000 image", CONVERT),
    (re.compile(rb"\x00\x00\x00\x0cJXL |\xff\x0a"), "a JPEG XL image", CONVERT),
    (re.compile(rb"....ftyp(avi[fs]|hei[cx]|mif1|msf1)", re.DOTALL), "an AVIF or HEIC image", CONVERT),
    (re.compile(rb"%PDF"), "a PDF", "Export the image from it as PNG."),
    (re.compile(rb"\s*<(svg|html|!doctype|\?xml)", re.IGNORECASE), "a text of HTML or XML", "Give the image itself."),
    (re.compile(rb"version https://git-lfs"), "a pointer of Git LFS", "Fetch the file itself: `git lfs pull`."),
)
"""How a file begins, what it is, and what to do."""


def unreadable(head: bytes) -> ImageError | None:
    """Return the error for a file that is known by its first bytes and not read here; None for any other."""
    if (error := unreadable_dicom(head)) is not None:
        return error
    at, mark = TAR_MARK
    if head.startswith(ARCHIVES) or head[at : at + len(mark)] == mark:
        return ImageError("this is an archive or a compressed file, not an image", UNPACK)
    return next(
        (
            ImageError(f"this is {what}, which is not read", remedy)
            for begin, what, remedy in OTHERS
            if begin.match(head)
        ),
        None,
    )


def unreadable_dicom(head: bytes) -> ImageError | None:
    """Return the error for DICOM without its mark, or in a gzip; None for any other file."""
    if begins_a_data_set(head):
        return ImageError("the DICOM file lacks its preamble and the DICM mark at byte 128", SAVE_AGAIN)
    return packed_dicom() if head.startswith(GZIP) and _unpacks_to_dicom(head) else None


def packed_dicom() -> ImageError:
    """Return the error for a DICOM file in a gzip or its like."""
    return ImageError("the DICOM file is compressed, as with gzip", UNPACK)


def begins_a_data_set(head: bytes) -> bool:
    """Tell whether bytes are the first element of a DICOM data set, of group 2 or 8: with a VR, or with a short length (PS3.5, section 7.1)."""
    if len(head) < 8 or head[:2] not in (b"\2\0", b"\x08\0") or head[3] != 0:
        return False
    return (head[4:6].isalpha() and head[4:6].isupper()) or int.from_bytes(head[4:8], "little") < HEAD


def _unpacks_to_dicom(head: bytes) -> bool:
    content = unpacked(head)
    return content[128:132] == b"DICM" or begins_a_data_set(content)
