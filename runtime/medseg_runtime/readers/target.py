"""From a location in a file or series to the images to segment, and the point in them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from medseg_runtime.errors import ImageError, ParameterError
from medseg_runtime.files.read import is_folder
from medseg_runtime.readers.image import read_image
from medseg_runtime.readers.patient_plane import Vector
from medseg_runtime.readers.source import SourceImage


@dataclass(frozen=True, kw_only=True, slots=True)
class Location:
    """A location in a file, or in the folder of a series: at most one of `center` and `center_mm`."""

    center: tuple[float, ...] | None = None
    """x, y in pixels from the image's upper left corner; in a series also the slice, counted from 0."""
    center_mm: Vector | None = None
    """x, y, z in patient coordinates."""
    frame: int | None = None
    """Frame of a multi-frame object, counted from 1."""
    slices: int = 1
    """Number of slices of a series to segment, with the location in the middle one."""

    def __post_init__(self) -> None:
        if self.center is not None and self.center_mm is not None:
            raise ParameterError("--center and --center-mm exclude each other", "Give one of them.")
        if self.slices < 1:
            raise ParameterError(f"{self.slices} slices is out of range", "Use 1 or more.")

    @property
    def needs_series(self) -> bool:
        """Whether a folder is one series, and not a set of unrelated images."""
        return self.center_mm is not None or (self.center is not None and len(self.center) == 3) or self.slices > 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """The images of one result."""

    images: tuple[SourceImage, ...]
    """In the order of the series."""
    index: int
    """Of the image with the location."""
    center: tuple[float, float] | None
    """x, y in pixels from the image's corner."""


def read_target(path: Path, location: Location) -> Target:
    """Read the image in a file, or slices of the series in a folder.

    Raises:
        ImageError: it cannot be read, or states no patient coordinates although `center_mm` is given.
        ParameterError: the location is not in it.
    """
    if is_folder(path):
        return _in_series(path, location)
    if location.slices > 1 or (location.center is not None and len(location.center) == 3):
        raise ParameterError(
            "this is one image, not a series", "Give the folder of the series, or --center X,Y without --slices."
        )
    image = read_image(path, location.frame)
    if location.center_mm is None:
        return Target(
            images=(image,),
            index=0,
            center=None if location.center is None else (location.center[0], location.center[1]),
        )
    plane = image.dicom.plane if image.dicom is not None else None
    if plane is None:
        raise ImageError("this image states no position in the patient", "Give the point in pixels: --center X,Y.")
    from medseg_runtime.readers.dicom.series import Series, Slice

    x, y, _ = Series((Slice(path, plane, ""),)).locate(location.center_mm)
    return Target(images=(image,), index=0, center=(x, y))


def _in_series(folder: Path, location: Location) -> Target:
    from medseg_runtime.readers.dicom.series import read_series

    if location.frame is not None:
        raise ParameterError("--frame chooses in one file, not in a folder", "Give the file itself.")
    series = read_series(folder)
    if location.center_mm is not None:
        x, y, z = series.locate(location.center_mm)
    elif location.center is not None and len(location.center) == 3:
        x, y, z = location.center[0], location.center[1], round(location.center[2])
    else:
        raise ParameterError("a series needs a point", "Give --center X,Y,Z or --center-mm X,Y,Z.")
    first = max(z - (location.slices - 1) // 2, 0)
    return Target(images=tuple(series.around(z, location.slices)), index=z - first, center=(x, y))
