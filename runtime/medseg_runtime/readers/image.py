"""Read images from files. The reader is chosen by a file's content, not by its name."""

from __future__ import annotations

import hashlib
import operator
import os
from dataclasses import dataclass
from pathlib import Path

from medseg_runtime.errors import ImageError, ParameterError
from medseg_runtime.files.names import printable
from medseg_runtime.readers.content import Readable, content_of
from medseg_runtime.readers.file_kind import HEAD, ZIP, is_video, volume_kind_of
from medseg_runtime.readers.source import PICTURE_SUFFIXES, SourceImage
from medseg_runtime.readers.unreadable import unreadable, unreadable_dicom

SUFFIXES = PICTURE_SUFFIXES | {".dcm"}
DICOM_MAGIC_AT = 128
DIRECTORY = "DICOMDIR"
"""The index of a DICOM medium (PS3.10, section 8.6)."""
APPLE_DOUBLE = b"\0\5\x16\7"
"""How a file begins in which macOS keeps attributes of another (RFC 1740); its name is that of the other, after `._`."""


def read_image(source: Readable, frame: int | None = None) -> SourceImage:
    """Read a PNG, JPEG, TIFF, BMP or DICOM image in its stored pixel grid.

    source: a path, the bytes of a file, a file opened in binary mode, or a pydicom `Dataset`.
    frame: of a multi-frame DICOM object, counted from 1.

    Raises:
        ImageError: the file is not a readable image. No content raises anything else.
        ParameterError: there is no such frame.
    """
    frame = None if frame is None else _whole(frame)
    content = content_of(source)
    sha256 = hashlib.sha256(content).hexdigest()
    if is_dicom(content):
        from medseg_runtime.readers.dicom.image import read_dicom  # pydicom is slow to import

        return read_dicom(content, sha256, frame)
    if volume_kind_of(content[:HEAD]) is not None:
        raise ImageError("this is a volume, not one image", "Read it with read_volume(path), and choose a slice.")
    if content.startswith(ZIP):
        raise ImageError("this is a zip, not one image", "Read the series in it with read_series(path).")
    if is_video(content[:HEAD]):
        raise ImageError(
            "this is a video, not one image", "Read its frames with read_clip(path), or give it to medseg-infer."
        )
    if (error := unreadable(content[:HEAD])) is not None:
        raise error
    if frame is not None:
        raise ParameterError("only DICOM objects have frames to choose from", "Leave --frame out.")
    from medseg_runtime.readers.raster.image import read_raster

    return read_raster(
        content, sha256, expected_dicom=isinstance(source, str | os.PathLike) and Path(source).suffix.lower() == ".dcm"
    )


def is_dicom(head: bytes) -> bool:
    """Tell whether a file begins with the DICOM preamble (PS3.10, section 7.1)."""
    return head[DICOM_MAGIC_AT : DICOM_MAGIC_AT + 4] == b"DICM"


def _whole(frame: int) -> int:
    try:
        return operator.index(frame)
    except TypeError:
        raise ParameterError("the number of a frame is not a whole number", "Give one, counted from 1.") from None


@dataclass(frozen=True, slots=True)
class Images:
    """The image and video files of a folder."""

    paths: tuple[Path, ...]
    """Sorted by name."""
    passed_over: dict[str, list[str]]
    """Kind -> names of files and folders that are none."""

    @property
    def notes(self) -> tuple[str, ...]:
        """The warning that files were passed over, if any were."""
        kinds = [
            f"{len(names)} {kind}" + (f" ({_first(names)})" if kind in NAMED else "")
            for kind, names in sorted(self.passed_over.items())
        ]
        return (f"passed over as no image: {', '.join(kinds)}",) if kinds else ()


def _first(names: list[str]) -> str:
    return ", ".join([*map(printable, names[:3]), *(["..."] if len(names) > 3 else [])])


def images_in(folder: str | os.PathLike[str]) -> Images:
    """Return the image and video files of a folder: those with a known suffix, and DICOM files that hold an image and videos of any name.

    DICOM files that cannot be read, as in a gzip, are among them: what is wrong is said when they are read. Hidden files and sub-folders
    are passed over.

    Raises:
        ImageError: the folder cannot be read, or holds no image.
    """
    passed_over: dict[str, list[str]] = {}
    found: list[Path] = []
    try:
        for path in sorted(Path(folder).iterdir()):
            kind = _no_image(path)
            if kind is None:
                found.append(path)
            elif kind:
                passed_over.setdefault(kind, []).append(path.name)
    except OSError as error:
        raise ImageError(f"the folder cannot be read: {error.strerror}", "Give a folder that you may read.") from error
    if not found:
        raise ImageError(
            "the folder holds no image" + (", but sub-folders" if SUB_FOLDER in passed_over else ""),
            "Give a folder with PNG, JPEG, TIFF, BMP, DICOM or video files, or the point in a study that has sub-folders: --center-mm X,Y,Z.",
        )
    return Images(tuple(found), passed_over)


SUB_FOLDER = "sub-folder"
OTHER, HIDDEN = "other", "hidden image"
NAMED = (OTHER, HIDDEN)
"""Kinds of which the names are shown: one of them may be an image that its owner expects a result of."""


def _no_image(path: Path) -> str | None:
    """Return what a file or folder is, if it is no image or video; empty for what nobody needs to know of."""
    hidden, known = path.name.startswith("."), path.suffix.lower() in SUFFIXES
    if path.is_dir():
        return "" if hidden else SUB_FOLDER
    if not path.exists() and known:
        return None  # a link to nowhere, named when it is read
    if not path.is_file():
        return OTHER
    if path.name.upper() == DIRECTORY:
        return DIRECTORY
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
    except OSError:  # reported when it is read
        head = b""
    if hidden:
        return HIDDEN if (known or is_dicom(head)) and not head.startswith(APPLE_DOUBLE) else ""
    if is_dicom(head):
        from medseg_runtime.readers.dicom.slice_header import kind_without_image  # pydicom is slow to import

        return kind_without_image(path)
    return None if known or is_video(head) or unreadable_dicom(head) is not None else OTHER
