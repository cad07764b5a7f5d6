"""A folder of DICOM slices as one series, sorted by where they lie in the patient.

>>> series = read_series(Path("chest"))                                  # doctest: +SKIP
>>> x, y, z = series.locate((-83.2, 41.0, -310.5))                       # doctest: +SKIP
>>> images = series.around(z, slices=5)                                  # doctest: +SKIP
>>> results = [segmenter(image, center=(x, y)) for image in images]      # doctest: +SKIP

Headers are read at once, pixels when they are asked for. Sample k of one slice and of the next start from the same noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom

from medseg_runtime.errors import ImageError, ParameterError
from medseg_runtime.io import is_dicom, read_image
from medseg_runtime.io.dicom.contained import reading
from medseg_runtime.io.dicom.reading import check_kind, plane_of
from medseg_runtime.io.plane import Float64, Plane, Vector
from medseg_runtime.io.source import SourceImage

SAME_MM = 0.01
"""Distances that differ by less are the same distance, written with other digits."""
SORT_THEM = "Put the slices of the one series that you mean into a folder of their own."


@dataclass(frozen=True, slots=True)
class Slice:
    """One file of a series."""

    path: Path
    plane: Plane
    uid: str
    """SOP Instance UID."""


@dataclass(frozen=True, slots=True)
class Series:
    """The slices of one series, sorted along their common normal."""

    slices: tuple[Slice, ...]

    def __len__(self) -> int:
        return len(self.slices)

    def read(self, index: int) -> SourceImage:
        """Read a slice, counted from 0."""
        return read_image(self.slices[index].path)

    def around(self, index: int, slices: int = 1) -> list[SourceImage]:
        """Read as many slices as that, with one of them in the middle; fewer at the ends of the series.

        Raises:
            ParameterError: there is no such slice, or no slice is asked for.
        """
        if not 0 <= index < len(self):
            raise ParameterError(f"there is no slice {index}", f"Give 0 to {len(self) - 1}.")
        if slices < 1:
            raise ParameterError(f"{slices} slices is out of range", "Use 1 or more.")
        first = index - (slices - 1) // 2
        return [self.read(i) for i in range(max(first, 0), min(first + slices, len(self)))]

    def locate(self, point_mm: Vector) -> tuple[float, float, int]:
        """Patient coordinates => x and y in pixels from the image's corner, and the nearest slice, counted from 0.

        Raises:
            ParameterError: the point lies outside the series.
        """
        offsets = [s.plane.locate(point_mm) for s in self.slices]
        index = int(np.argmin([abs(off) for _, _, off in offsets]))
        x, y, off = offsets[index]
        gaps = np.diff([s.plane.depth for s in self.slices])
        # half a gap; at the ends and of a single slice as much again
        if abs(off) > (float(gaps.max()) if len(gaps) else LONE_SLICE_MM):
            raise ParameterError(
                f"the point lies {abs(off):.0f} mm outside the slices", "Give patient coordinates inside the series."
            )
        return x, y, index


LONE_SLICE_MM = 5.0
"""Half the thickness that a slice without neighbours is taken to have."""


def read_series(folder: Path) -> Series:
    """Read the headers of a folder's DICOM files: every one a single-frame slice of one series.

    Hidden files, sub-folders and files that are not DICOM are passed over.

    Raises:
        ImageError: no DICOM file, several series or orientations, two slices in one place, or a damaged file.
    """
    try:
        paths = sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.is_file())
    except OSError as error:
        raise ImageError(f"the folder cannot be read: {error.strerror}", "Give one that you may read.") from error
    found = [(path, header) for path in paths if (header := _header(path)) is not None]
    if not found:
        raise ImageError("the folder holds no DICOM image", "Give a folder with the slices of one series.")
    series = {str(header.get("SeriesInstanceUID")) for _, header in found}
    if len(series) != 1:
        raise ImageError(f"the folder holds images of {len(series)} series", SORT_THEM)
    slices = [_slice(path, header) for path, header in found]
    grids = {(int(header.Rows), int(header.Columns)) for _, header in found}
    if len(grids) != 1 or any(_differ(s.plane, slices[0].plane) for s in slices):
        raise ImageError("the slices differ in size, spacing or orientation, as with a localizer", SORT_THEM)
    slices.sort(key=lambda s: s.plane.depth)
    if any(np.diff([s.plane.depth for s in slices]) < SAME_MM):
        raise ImageError("two slices lie in one place, as in a dynamic study", SORT_THEM)
    return Series(tuple(slices))


def steps_mm(planes: list[Plane]) -> Float64:
    """Return the vector from one slice to the next, of slices that are evenly spaced.

    Raises:
        ImageError: they are not.
    """
    if len(planes) == 1:
        return planes[0].normal
    steps = np.diff([plane.position for plane in planes], axis=0)
    if np.abs(steps - steps.mean(axis=0)).max() > 0.1:
        raise ImageError("the slices are not evenly spaced", "Use fewer --slices, or write a DICOM SEG instead.")
    return np.asarray(steps.mean(axis=0), np.float64)


def _header(path: Path) -> pydicom.Dataset | None:
    """Read a header; None where the file is not DICOM, or the directory of a medium."""
    try:
        with path.open("rb") as file:
            if not is_dicom(file.read(132)):
                return None
    except OSError as error:
        raise ImageError(f"a file of the folder cannot be read: {error.strerror}", SORT_THEM) from error
    with reading():
        # Past the pixels as well: what follows them tells that the file is whole. They stay on disk.
        header = pydicom.dcmread(path, defer_size="64 KB")
        if "DirectoryRecordSequence" in header:
            return None
        if check_kind(header) != 1:
            raise ImageError(
                "a file of the folder holds several frames", "Give that file itself, and choose a frame with --frame K."
            )
        return header


def _slice(path: Path, header: pydicom.Dataset) -> Slice:
    with reading():
        plane = plane_of(header)
        if plane is None:
            raise ImageError(
                "a slice of the folder does not say where it lies in the patient", "Give the image files one by one."
            )
        return Slice(path, plane, str(header.SOPInstanceUID))


def _differ(one: Plane, other: Plane) -> bool:
    directions = np.subtract([*one.along_row, *one.along_column], [*other.along_row, *other.along_column])
    spacing = np.subtract(one.spacing_mm, other.spacing_mm)
    return bool(np.abs(directions).max() > 1e-3 or np.abs(spacing).max() > SAME_MM)
