"""What a reader returns, and the bytes it starts from."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from medseg_runtime.errors import ImageError
from medseg_runtime.imaging import Pixels
from medseg_runtime.io.plane import Plane

if TYPE_CHECKING:
    import pydicom

MAX_PIXELS = 89_478_485
"""Rows x columns of the largest image that is decoded: 256 MiB of RGB, where Pillow itself begins to warn of bombs."""
MAX_FILE_BYTES = 1 << 30
READABLE = "Give a PNG, JPEG, TIFF or DICOM image."


@dataclass(frozen=True, kw_only=True, slots=True)
class DicomOrigin:
    """What a picture from a DICOM object needs to find its way back: into a SEG, or to a point in the patient."""

    header: pydicom.Dataset = field(repr=False)
    """The data set without its pixels. It names the patient: it goes into DICOM objects and nowhere else."""
    frame: int
    """Counted from 1."""
    frames: int
    plane: Plane | None
    """Where the picture lies in the patient; None where the header does not say."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceImage:
    """One image as it is stored in a file: no rotation, no crop, no windowing."""

    pixels: Pixels
    """(H, W) grey or (H, W, 3) RGB, integers or finite floats."""
    sha256: str
    """Of the file's bytes."""
    kind: str
    """For example `PNG` or `DICOM CT`."""
    spacing_mm: tuple[float, float] | None = None
    """Distance of rows, then of columns, in the patient; None where the file does not say."""
    value_range: tuple[float, float] | None = None
    """What the intensity rule `unit` takes for 0 and 1: a DICOM window; None: the range of the pixels' type."""
    dicom: DicomOrigin | None = None
    """Of DICOM sources."""
    warnings: tuple[str, ...] = ()
    """What was done to the pixels, one sentence each; never a value that identifies a patient."""


def read_bytes(path: Path) -> bytes:
    """Return the content of a regular file, without ever waiting for a pipe or a device.

    Raises:
        ImageError: not a regular file, unreadable, empty, or larger than `MAX_FILE_BYTES`.
    """
    try:
        # O_NONBLOCK: opening a pipe that nobody writes to would otherwise wait for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            _check_file(os.fstat(descriptor))
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                return file.read()
        finally:
            os.close(descriptor)
    except ImageError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ImageError(f"the file cannot be read: {reason}", READABLE) from error


def is_folder(path: Path) -> bool:
    """Tell whether a path is a folder; of a name that cannot be, reading it says what is wrong."""
    try:
        return path.is_dir()
    except OSError:  # too long
        return False


def _check_file(status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise ImageError("this is a folder", "Give the image files in it.")
    if not stat.S_ISREG(status.st_mode):
        raise ImageError("this is a pipe or a device, not a file", READABLE)
    if status.st_size == 0:
        raise ImageError("the file is empty", READABLE)
    if status.st_size > MAX_FILE_BYTES:
        raise ImageError(
            f"the file has {status.st_size / 2**30:.1f} GiB", f"Give one of at most {MAX_FILE_BYTES >> 30} GiB."
        )


def check_size(width: int, height: int) -> None:
    """Refuse, before it is decoded, what would fill the memory or is no image.

    Raises:
        ImageError: a side below 2, or more than `MAX_PIXELS` pixels.
    """
    if min(width, height) < 2:
        raise ImageError(f"an image of {width}x{height} px is too small", "Give at least 2x2 pixels.")
    if width * height > MAX_PIXELS:
        raise ImageError(
            f"an image of {width}x{height} px is too large", f"Give at most {MAX_PIXELS:,} pixels, for example a crop."
        )
