"""The image that every reader returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from medseg_runtime.errors import ImageError
from medseg_runtime.model.preprocess import Pixels, as_image
from medseg_runtime.readers.patient_plane import PatientPlane
from medseg_runtime.readers.voxel_grid import VoxelGrid

if TYPE_CHECKING:
    import pydicom

MAX_PIXELS = 89_478_485
"""Rows x columns of the largest image that is decoded: 256 MiB of RGB, Pillow's own limit for decompression bombs."""
READABLE = "Give a PNG, JPEG, TIFF or DICOM image."
DAMAGED = "Copy the file again, or save it anew from the program it comes from."
"""Remedies. For DICOM see `dicom.guard`."""


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
class VolumeOrigin:
    """What links an image to the volume file that it is a slice of."""

    grid: VoxelGrid
    index: int
    """Of the slice, counted from 0 along the grid's slices."""
    geometry: Any = field(default=None, repr=False)
    """NIfTI only: a header with nothing but the source's geometry."""

    @property
    def stored_index(self) -> int:
        """Of the slice in the file's own order, counted from 0."""
        return self.grid.stored_index(self.index)


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
    volume: VolumeOrigin | None = None
    """Slices of a volume file only."""
    warnings: tuple[str, ...] = ()
    """How the pixels were changed, one sentence each. Never a value that identifies a patient."""

    @property
    def plane(self) -> PatientPlane | None:
        """The image plane in patient coordinates; None if it is not known."""
        if self.dicom is not None:
            return self.dicom.plane
        return None if self.volume is None else self.volume.grid.plane(self.volume.index)

    @classmethod
    def from_array(cls, pixels: Pixels) -> SourceImage:
        """Return an image of an array (H, W) or (H, W, 1) grey or (H, W, 3) RGB, integers or finite floats. It has no hash and no spacing.

        pixels: also a picture of Pillow, or anything that NumPy takes as an array.

        Raises:
            ImageError: another shape or type, NaN or infinite values, or a side below 2.
        """
        return cls(pixels=as_image(_array(pixels)), sha256="", kind="array")


def _array(pixels: Any) -> Pixels:
    if isinstance(pixels, Image.Image):
        return _of_picture(pixels)
    if isinstance(pixels, np.ma.MaskedArray) and np.ma.is_masked(pixels):
        raise ImageError("some pixels of the array are masked", "Fill them: pixels.filled(value).")
    try:
        array = np.asarray(pixels)
    except Exception as error:  # of any library: a tensor on a GPU or with a gradient, a ragged list
        raise ImageError(
            f"a {type(pixels).__name__} cannot be read as an array ({type(error).__name__})",
            "Pass a NumPy array, for example tensor.detach().cpu().numpy(), (H, W) or (H, W, 3).",
        ) from error
    if array.dtype == np.object_ and not isinstance(pixels, np.ndarray):
        raise ImageError(
            f"a {type(pixels).__name__} is not an image",
            "Pass an array, (H, W) or (H, W, 3), or an image file: its path, its bytes, or opened in binary mode.",
        )
    return array


def _of_picture(picture: Image.Image) -> Pixels:
    """Return the colors of a picture, not the numbers of its palette or of another color space."""
    if picture.mode in ("L", "F", "RGB") or picture.mode.startswith("I"):
        return np.asarray(picture)
    if picture.mode == "1":
        return np.asarray(picture.convert("L"))
    if picture.mode in ("P", "CMYK", "YCbCr", "LAB", "HSV") and "transparency" not in picture.info:
        return np.asarray(picture.convert("RGB"))
    raise ImageError(
        f"a picture of mode {picture.mode} has an alpha channel, or an unusual one",
        "Composite it on a background, or drop the channel: picture.convert('RGB').",
    )


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
