"""Files in: which reader a file needs is decided by its content, not by its name."""

from __future__ import annotations

import hashlib
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from medseg_runtime.errors import ImageError, ParameterError
from medseg_runtime.files.read import read_bytes
from medseg_runtime.readers.source import READABLE, SourceImage

if TYPE_CHECKING:
    from medseg_runtime.readers.dicom.series import Series

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".dcm"})
DICOM_MAGIC_AT = 128
DIRECTORY = "DICOMDIR"
"""Of a medium, beside its images (PS3.10, section 8.6)."""


def read_image(path: str | PathLike[str], frame: int | None = None) -> SourceImage:
    """Read a PNG, JPEG, TIFF or DICOM image in its stored pixel grid.

    frame: which one of a DICOM object with several, counted from 1.

    Raises:
        ImageError: the file is not a readable image; nothing else, whatever the file holds.
        ParameterError: there is no such frame.
    """
    path = Path(path)
    content = read_bytes(path, ImageError, READABLE)
    sha256 = hashlib.sha256(content).hexdigest()
    if is_dicom(content):
        from medseg_runtime.readers.dicom.image import read_dicom  # pydicom is slow to import and PNGs do not need it

        return read_dicom(content, sha256, frame)
    if frame is not None:
        raise ParameterError("only DICOM objects have frames to choose from", "Leave --frame out.")
    from medseg_runtime.readers.raster import read_raster

    return read_raster(content, sha256, looked_for_dicom=path.suffix.lower() == ".dcm")


def read_series(folder: str | PathLike[str]) -> Series:
    """Shim."""
    from medseg_runtime.readers.dicom.series import read_series as read

    return read(Path(folder))


def is_dicom(head: bytes) -> bool:
    """Tell whether a file begins with DICOM's preamble (PS3.10, section 7.1)."""
    return head[DICOM_MAGIC_AT : DICOM_MAGIC_AT + 4] == b"DICM"


def images_in(folder: Path) -> list[Path]:
    """Return a folder's image files by name: those with a suffix that we know, and DICOM files of any name.

    Hidden files and sub-folders are passed over.

    Raises:
        ImageError: the folder cannot be read, or holds no image.
    """
    try:
        found = sorted(path for path in folder.iterdir() if not path.name.startswith(".") and _looks_like_image(path))
    except OSError as error:
        raise ImageError(f"the folder cannot be read: {error.strerror}", "Give one that you may read.") from error
    if not found:
        raise ImageError("the folder holds no image", "Give a folder with PNG, JPEG, TIFF or DICOM files in it.")
    return found


def _looks_like_image(path: Path) -> bool:
    if not path.is_file() or path.name.upper() == DIRECTORY:
        return False
    if path.suffix.lower() in SUFFIXES:
        return True
    try:
        with path.open("rb") as file:
            return is_dicom(file.read(DICOM_MAGIC_AT + 4))
    except OSError:
        return False
