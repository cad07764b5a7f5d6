"""The image that every reader returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from medseg_runtime.errors import ImageError
from medseg_runtime.model.preprocess import Pixels
from medseg_runtime.readers.patient_plane import PatientPlane

if TYPE_CHECKING:
    import pydicom

MAX_PIXELS = 89_478_485
"""Rows x columns of the largest image that is decoded: 256 MiB of RGB, where Pillow itself begins to warn of bombs."""
READABLE = "Give a PNG, JPEG, TIFF or DICOM image."


@dataclass(frozen=True, kw_only=True, slots=True)
class DicomOrigin:
    """What a picture from a DICOM object needs to find its way back: into a SEG, or to a point in the patient."""

    header: pydicom.Dataset = field(repr=False)
    """The data set without its pixels. It names the patient: it goes into DICOM objects and nowhere else."""
    frame: int
    """Counted from 1."""
    frames: int
    plane: PatientPlane | None
    """Where the picture lies in the patient; None where the header does not say."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceImage:
    """One image as it is stored in a file: no rotation, no crop, no windowing."""

    pixels: Pixels
    """(H, W) grey or (H, W, 3) RGB, integers or finite floats."""
    sha256: str
    """Of the file's bytes; empty for an array."""
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

    @classmethod
    def from_array(cls, pixels: Pixels) -> SourceImage:
        """Wrap an array, which has neither file nor spacing."""
        return cls(pixels=pixels, sha256="", kind="array")


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
