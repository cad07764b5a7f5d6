"""The image that every reader returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from medseg_runtime.errors import ImageError
from medseg_runtime.model.preprocess import Pixels, as_image
from medseg_runtime.readers.patient_plane import PatientPlane

if TYPE_CHECKING:
    import pydicom

MAX_PIXELS = 89_478_485
"""Rows x columns of the largest image that is decoded: 256 MiB of RGB, Pillow's own limit for decompression bombs."""
READABLE = "Give a PNG, JPEG, TIFF or DICOM image."


@dataclass(frozen=True, kw_only=True, slots=True)
class DicomOrigin:
    """What links an image to its DICOM object: for a SEG that refers to it, and for patient coordinates."""

    header: pydicom.Dataset = field(repr=False)
    """The data set without its pixels. It identifies the patient: write it into DICOM objects only."""
    frame: int
    """Counted from 1."""
    frames: int
    plane: PatientPlane | None
    """The image plane in patient coordinates; None if the header does not state it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceImage:
    """One image as a file stores it, or as an array: not rotated, cropped or windowed."""

    pixels: Pixels
    """(H, W) grey or (H, W, 3) RGB, integers or finite floats."""
    sha256: str
    """Of the file's bytes; empty for an array."""
    kind: str
    """For example `PNG`, `DICOM CT` or `array`."""
    spacing_mm: tuple[float, float] | None = None
    """Distance of rows, then of columns; None if the file does not state it."""
    value_range: tuple[float, float] | None = None
    """The intensities that the rule `unit` maps to 0 and 1, for example a DICOM window; None: the range of the pixels' type."""
    frame: int | None = None
    """Number of a frame of a clip, counted from 1."""
    time_s: float | None = None
    """Of a frame of a clip: seconds from its first frame, as the file states them."""
    dicom: DicomOrigin | None = None
    """DICOM images only."""
    warnings: tuple[str, ...] = ()
    """How the pixels were changed, one sentence each. Never a value that identifies a patient."""

    @classmethod
    def from_array(cls, pixels: Pixels) -> SourceImage:
        """Return an image of an array (H, W) grey or (H, W, 3) RGB, integers or finite floats. It has no hash and no spacing.

        Raises:
            ImageError: another shape or type, NaN or infinite values, or a side below 2.
        """
        return cls(pixels=as_image(pixels), sha256="", kind="array")


def check_size(width: int, height: int) -> None:
    """Refuse an image by its size, before it is decoded.

    Raises:
        ImageError: a side below 2, or more than `MAX_PIXELS` pixels.
    """
    if min(width, height) < 2:
        raise ImageError(f"an image of {width}x{height} px is too small", "Give at least 2x2 pixels.")
    if width * height > MAX_PIXELS:
        raise ImageError(
            f"an image of {width}x{height} px is too large", f"Give at most {MAX_PIXELS:,} pixels, for example a crop."
        )
