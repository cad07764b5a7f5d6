"""The image that every reader returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import ExifTags, Image

from medseg_runtime.errors import ImageError
from medseg_runtime.model.preprocess import Pixels, as_image
from medseg_runtime.readers.patient_plane import PatientPlane
from medseg_runtime.readers.voxel_grid import VoxelGrid

if TYPE_CHECKING:
    import pydicom

MAX_PIXELS = 89_478_485
"""Rows x columns of the largest image that is decoded: 256 MiB of RGB, Pillow's own limit for decompression bombs."""
READABLE = "Give a PNG, JPEG, TIFF, BMP or DICOM image."
DAMAGED = "Copy the file again, or save it anew from the program it comes from."
"""Remedies. For DICOM see `dicom.guard`."""
PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"})


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
        notes: list[str] = []
        array = _of_picture(pixels, notes) if isinstance(pixels, Image.Image) else _array(pixels)
        return cls(pixels=as_image(array), sha256="", kind="array", warnings=tuple(notes))


def _array(pixels: Any) -> Pixels:
    if isinstance(pixels, np.ma.MaskedArray) and np.ma.is_masked(pixels):
        raise ImageError("some pixels of the array are masked", "Fill them: pixels.filled(value).")
    try:
        array = np.asarray(pixels)
    except Exception as error:  # of any library: a tensor on a GPU or with a gradient, a ragged list
        raise ImageError(
            f"a {type(pixels).__name__} cannot be read as an array ({type(error).__name__})",
            "Pass a NumPy array, (H, W) or (H, W, 3), for example tensor.detach().cpu().numpy(); of bfloat16 tensor.float() first.",
        ) from error
    if array.dtype.kind in "OUS" and not isinstance(pixels, np.ndarray):
        raise ImageError(
            f"a {type(pixels).__name__} is not an image",
            "Pass an array, (H, W) or (H, W, 3), or an image file: its path, its bytes, or opened in binary mode. stream() takes many.",
        )
    return array


def _of_picture(picture: Image.Image, notes: list[str]) -> Pixels:
    """Return the colors of a picture, not the numbers of its palette or of another color space; add what a reader should know to notes."""
    try:
        picture.load()
        if getattr(picture, "is_animated", False):
            notes.append("the picture holds several images, and the one that it is at was read")
        if picture.getexif().get(ExifTags.Base.Orientation, 1) != 1:
            notes.append("the EXIF orientation was not applied: masks are in the grid of the stored pixels")
    except Exception as error:  # closed, or a damaged file: OSError, ValueError, SyntaxError and more
        raise ImageError(
            f"the picture cannot be decoded ({type(error).__name__})",
            "Open it again from a whole file, or give that file.",
        ) from error
    if "transparency" in picture.info:
        raise _transparent(picture)
    if picture.mode in ("L", "F", "RGB") or picture.mode.startswith("I"):
        return np.asarray(picture)
    if picture.mode == "1":
        return np.asarray(picture.convert("L"))
    if picture.mode in ("P", "CMYK", "YCbCr", "LAB", "HSV"):
        return np.asarray(picture.convert("RGB"))
    raise _transparent(picture)


def _transparent(picture: Image.Image) -> ImageError:
    return ImageError(
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
