"""Read images from files. The reader is chosen by a file's content, not by its name."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from medseg_runtime.errors import ImageError, ParameterError
from medseg_runtime.files.read import read_bytes
from medseg_runtime.readers.source import READABLE, SourceImage

if TYPE_CHECKING:
    pass

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".dcm"})
DICOM_MAGIC_AT = 128
DIRECTORY = "DICOMDIR"
"""The index of a DICOM medium (PS3.10, section 8.6)."""


def read_image(path: str | os.PathLike[str], frame: int | None = None) -> SourceImage:
    """Read a PNG, JPEG, TIFF or DICOM image in its stored pixel grid.

    frame: of a multi-frame DICOM object, counted from 1.

    Raises:
        ImageError: the file is not a readable image. No content raises anything else.
        ParameterError: there is no such frame.
    """
    path = Path(path)
    content = read_bytes(path, ImageError, READABLE)
    sha256 = hashlib.sha256(content).hexdigest()
    if is_dicom(content):
        from medseg_runtime.readers.dicom.image import read_dicom  # pydicom is slow to import

        return read_dicom(content, sha256, frame)
    if frame is not None:
        raise ParameterError("only DICOM objects have frames to choose from", "Leave --frame out.")
    from medseg_runtime.readers.raster import read_raster

    return read_raster(content, sha256, expected_dicom=path.suffix.lower() == ".dcm")


def is_dicom(head: bytes) -> bool:
    """Tell whether a file begins with the DICOM preamble (PS3.10, section 7.1)."""
    return head[DICOM_MAGIC_AT : DICOM_MAGIC_AT + 4] == b"DICM"


def images_in(folder: Path) -> list[Path]:
    """Return the image files of a folder, sorted by name: those with a known suffix, and DICOM files of any name.

    Hidden files and sub-folders are skipped.

    Raises:
        ImageError: the folder cannot be read, or holds no image.
    """
    try:
        found = sorted(path for path in folder.iterdir() if not path.name.startswith(".") and _looks_like_image(path))
    except OSError as error:
        raise ImageError(f"the folder cannot be read: {error.strerror}", "Give a folder that you may read.") from error
    if not found:
        raise ImageError("the folder holds no image", "Give a folder with PNG, JPEG, TIFF or DICOM files.")
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
