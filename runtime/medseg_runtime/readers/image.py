"""Read images from files. The reader is chosen by a file's content, not by its name."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from medseg_runtime.errors import ImageError, ParameterError
from medseg_runtime.readers.content import Readable, content_of
from medseg_runtime.readers.file_kind import HEAD, ZIP, volume_kind_of
from medseg_runtime.readers.source import SourceImage

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".dcm"})
DICOM_MAGIC_AT = 128
DIRECTORY = "DICOMDIR"
"""The index of a DICOM medium (PS3.10, section 8.6)."""


def read_image(source: Readable, frame: int | None = None) -> SourceImage:
    """Read a PNG, JPEG, TIFF or DICOM image in its stored pixel grid.

    source: a path, the bytes of a file, a file opened in binary mode, or a pydicom `Dataset`.
    frame: of a multi-frame DICOM object, counted from 1.

    Raises:
        ImageError: the file is not a readable image. No content raises anything else.
        ParameterError: there is no such frame.
    """
    content = content_of(source)
    sha256 = hashlib.sha256(content).hexdigest()
    if is_dicom(content):
        from medseg_runtime.readers.dicom.image import read_dicom  # pydicom is slow to import

        return read_dicom(content, sha256, frame)
    if volume_kind_of(content[:HEAD]) is not None:
        raise ImageError("this is a volume, not one image", "Read it with read_volume(path), and choose a slice.")
    if content.startswith(ZIP):
        raise ImageError("this is a zip, not one image", "Read the series in it with read_series(path).")
    if frame is not None:
        raise ParameterError("only DICOM objects have frames to choose from", "Leave --frame out.")
    from medseg_runtime.readers.raster.image import read_raster

    return read_raster(
        content, sha256, expected_dicom=isinstance(source, str | os.PathLike) and Path(source).suffix.lower() == ".dcm"
    )


def is_dicom(head: bytes) -> bool:
    """Tell whether a file begins with the DICOM preamble (PS3.10, section 7.1)."""
    return head[DICOM_MAGIC_AT : DICOM_MAGIC_AT + 4] == b"DICM"


@dataclass(frozen=True, slots=True)
class Images:
    """The image files of a folder."""

    paths: tuple[Path, ...]
    """Sorted by name."""
    passed_over: Counter[str]
    """Kind -> number of files and folders that are none."""


def images_in(folder: Path) -> Images:
    """Return the image files of a folder: those with a known suffix, and DICOM files of any name that hold an image.

    Hidden files are left out, and sub-folders are passed over.

    Raises:
        ImageError: the folder cannot be read, or holds no image.
    """
    passed_over: Counter[str] = Counter()
    found: list[Path] = []
    try:
        for path in sorted(path for path in folder.iterdir() if not path.name.startswith(".")):
            kind = _no_image(path)
            if kind is None:
                found.append(path)
            else:
                passed_over[kind] += 1
    except OSError as error:
        raise ImageError(f"the folder cannot be read: {error.strerror}", "Give a folder that you may read.") from error
    if not found:
        raise ImageError(
            "the folder holds no image" + (", but sub-folders" if passed_over[SUB_FOLDER] else ""),
            "Give a folder with PNG, JPEG, TIFF or DICOM files, or the point in a study that has sub-folders: --center-mm X,Y,Z.",
        )
    return Images(tuple(found), passed_over)


def passed_over_note(passed_over: Counter[str]) -> tuple[str, ...]:
    """Return the warning that files were passed over, if any were.

    passed_over: kind -> number of files.
    """
    kinds = ", ".join(f"{number} {kind}" for kind, number in sorted(passed_over.items()))
    return (f"passed over as no image: {kinds}",) if kinds else ()


SUB_FOLDER = "sub-folder"


def _no_image(path: Path) -> str | None:
    """Return what a file or folder is, if it is no image."""
    if path.is_dir():
        return SUB_FOLDER
    if not path.exists() and path.suffix.lower() in SUFFIXES:
        return None  # a link to nowhere, named when it is read
    if not path.is_file():
        return "other"
    if path.name.upper() == DIRECTORY:
        return DIRECTORY
    try:
        with path.open("rb") as file:
            head = file.read(DICOM_MAGIC_AT + 4)
    except OSError:  # reported when it is read
        head = b""
    if is_dicom(head):
        from medseg_runtime.readers.dicom.slice_header import kind_without_image  # pydicom is slow to import

        return kind_without_image(path)
    return None if path.suffix.lower() in SUFFIXES else "other"
