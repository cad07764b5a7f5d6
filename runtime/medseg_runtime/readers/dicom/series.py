"""A folder of DICOM slices as one series, sorted by position in the patient.

>>> series = read_series(Path("chest"))                                  # doctest: +SKIP
>>> x, y, z = series.locate((-83.2, 41.0, -310.5))                       # doctest: +SKIP
>>> images = series.around(z, slices=5)                                  # doctest: +SKIP
>>> results = [segmenter(image, center=(x, y)) for image in images]      # doctest: +SKIP

Headers are read at once, pixels only when asked for. Sample k starts from the same noise in every slice.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom

from medseg_runtime.errors import ImageError, ParameterError
from medseg_runtime.files.names import printable
from medseg_runtime.readers.dicom.geometry import plane_of
from medseg_runtime.readers.dicom.guard import reading
from medseg_runtime.readers.dicom.header import check_kind, holds_an_image
from medseg_runtime.readers.dicom.parse import parse
from medseg_runtime.readers.image import is_dicom, read_image
from medseg_runtime.readers.patient_plane import Float64, PatientPlane, Vector
from medseg_runtime.readers.source import SourceImage

SAME_MM = 0.01
"""Distances that differ by less count as equal: they are rounded differently."""
ONE_SERIES = "Put the slices of one series into a folder of their own."


@dataclass(frozen=True, slots=True)
class Slice:
    """One file of a series."""

    path: Path
    plane: PatientPlane
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
        """Read this number of slices, with `index` in the middle; fewer at the ends of the series.

        Raises:
            ParameterError: there is no such slice, or `slices` is below 1.
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
            ParameterError: the point is outside the series.
        """
        offsets = [s.plane.locate(point_mm) for s in self.slices]
        index = int(np.argmin([abs(off) for _, _, off in offsets]))
        x, y, off = offsets[index]
        if abs(off) > self._reach_mm:
            raise ParameterError(
                f"the point lies {abs(off):.3g} mm from the nearest slice",
                "Give patient coordinates inside the series, and all of its slices.",
            )
        return x, y, index

    @property
    def _reach_mm(self) -> float:
        """The largest distance of a point from its nearest slice: the median gap between slices.

        The median and not the largest gap, so that a point where slices are missing is refused.
        """
        gaps = np.diff([s.plane.depth for s in self.slices])
        return float(np.median(gaps)) if len(gaps) else self.slices[0].plane.thickness_mm or LONE_SLICE_MM


LONE_SLICE_MM = 5.0
"""Assumed thickness of a single slice that does not state it."""


def read_series(folder: Path) -> Series:
    """Read the headers of a folder of DICOM files, each of them a single-frame slice of one series.

    Hidden files, sub-folders, other files and DICOM objects without images, such as reports, are skipped.

    Raises:
        ImageError: no DICOM image, several series or orientations, two slices at one position, or a damaged file.
    """
    try:
        paths = sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.is_file())
    except OSError as error:
        raise ImageError(f"the folder cannot be read: {error.strerror}", "Give a folder that you may read.") from error
    found = [header for path in paths if (header := _header(path)) is not None]
    if not found:
        raise ImageError("the folder holds no DICOM image", "Give a folder with the slices of one series.")
    series = {header.series for header in found}
    if len(series) != 1:
        raise ImageError(f"the folder holds images of {len(series)} series", ONE_SERIES)
    slices = [header.slice() for header in found]
    grids = {header.grid for header in found}
    if len(grids) != 1 or any(_differ(s.plane, slices[0].plane) for s in slices):
        raise ImageError("the slices differ in size, spacing or orientation, as with a localizer", ONE_SERIES)
    slices.sort(key=lambda s: s.plane.depth)
    if any(np.diff([s.plane.depth for s in slices]) < SAME_MM):
        raise ImageError("two slices lie in one place, as in a dynamic study", ONE_SERIES)
    return Series(tuple(slices))


def steps_mm(planes: list[PatientPlane]) -> Float64:
    """Return the vector (3,) in mm from one slice to the next.

    Raises:
        ImageError: the slices are not evenly spaced.
    """
    if len(planes) == 1:
        return planes[0].normal
    steps = np.diff([plane.position for plane in planes], axis=0)
    if np.abs(steps - steps.mean(axis=0)).max() > 0.1:
        raise ImageError("the slices are not evenly spaced", "Use fewer --slices, or write a DICOM SEG instead.")
    return np.asarray(steps.mean(axis=0), np.float64)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Header:
    """The checked values of a header that do not identify a patient."""

    path: Path
    series: str
    uid: str
    grid: tuple[int, int]
    """Rows and columns."""
    plane: PatientPlane | None

    def slice(self) -> Slice:
        if self.plane is None:
            raise ImageError(
                f"{printable(self.path.name)} states no position in the patient",
                "Give the image files one by one.",
            )
        return Slice(self.path, self.plane, self.uid)


def _header(path: Path) -> _Header | None:
    """Read a header; None if the file is not DICOM, or not an image.

    Raises:
        ImageError: the file is damaged, or holds several frames. The message names the file.
    """
    try:
        with path.open("rb") as file:
            if not is_dicom(file.read(132)):
                return None
    except OSError as error:
        raise ImageError(f"{printable(path.name)} cannot be read: {error.strerror}", ONE_SERIES) from error
    try:
        with reading():
            # Read past the pixels, which stay on disk: what follows them shows that the file is complete.
            with path.open("rb") as file:
                dataset = parse(file, defer_size=64 << 10)
            return _parsed(path, dataset) if holds_an_image(dataset) else None
    except ImageError as error:
        raise ImageError(f"{printable(path.name)}: {error.problem}", error.remedy) from error.__cause__


def _parsed(path: Path, dataset: pydicom.Dataset) -> _Header:
    if check_kind(dataset) != 1:
        raise ImageError(
            "this file holds several frames, and each file of a series holds one",
            "Give the file itself, with --frame K and without --slices.",
        )
    return _Header(
        path=path,
        series=str(dataset.get("SeriesInstanceUID")),
        uid=str(dataset.SOPInstanceUID),
        grid=(int(dataset.Rows), int(dataset.Columns)),
        plane=plane_of(dataset),
    )


def _differ(one: PatientPlane, other: PatientPlane) -> bool:
    directions = np.subtract([*one.along_row, *one.along_column], [*other.along_row, *other.along_column])
    spacing = np.subtract(one.spacing_mm, other.spacing_mm)
    return bool(np.abs(directions).max() > 1e-3 or np.abs(spacing).max() > SAME_MM)
