"""Parallel slices through one patient, sorted along their normal: the common part of a DICOM series and of a volume file.

Which slice shows a point? Between two slices the nearer one, if the gap between them is usual for its surroundings. In a wider gap, where
slices are missing, a slice shows points within half of the usual gap, and the rest is shown by none. Beyond the first and the last slice
a point may lie one usual gap away. One or two slices are judged by their thickness.

    usual gap: the larger of (smallest of the 3 gaps before, smallest of the 3 gaps after)
    hole:      a gap of more than 1.5 usual gaps

So a dense part makes no hole of the wider gaps around it, and several slices may be missing near each other. A side with one gap
alone, at an end of the stack, could itself be a hole: it does not count beside a longer one, and of two such sides the smaller gap counts.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from medseg_runtime.errors import ImageError, ParameterError
from medseg_runtime.readers.patient_plane import Float64, PatientPlane, Vector
from medseg_runtime.readers.source import SourceImage

SAME_MM = 0.01
"""Distances that differ by less count as equal: they are rounded differently."""
LONE_SLICE_MM = 5.0
"""Assumed thickness of a single slice that does not state it."""
NEIGHBOURS = 3
"""Gaps on each side that say what is usual."""
HOLE = 1.5
"""Gaps wider than this many usual gaps are holes."""


class Stack(ABC):
    """Slices of one patient, parallel and sorted. Slices and indices count from 0."""

    @property
    @abstractmethod
    def planes(self) -> tuple[PatientPlane, ...]:
        """The plane of each slice; empty if the slices have no position in the patient."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def read(self, index: int) -> SourceImage:
        """Read one slice.

        Raises:
            ImageError: it cannot be read.
            ParameterError: there is no such slice.
        """

    def check_index(self, index: int) -> None:
        """Refuse an index of no slice; a negative one does not count from the end.

        Raises:
            ParameterError: there is no such slice.
        """
        if not 0 <= index < len(self):
            raise ParameterError(f"there is no slice {index}", f"Give 0 to {len(self) - 1}.")

    def pixel(self, point: tuple[float, float, float]) -> tuple[float, float, int]:
        """X, Y, Z as a user counts them in this stack => x and y in pixels from the image's corner, and the slice."""
        return point[0], point[1], round(point[2])

    def around(self, index: int, slices: int = 1) -> list[SourceImage]:
        """Read this number of slices, with `index` in the middle; fewer at the ends. Each has a warning if
        there are fewer, or if slices are missing between them.

        Raises:
            ParameterError: there is no such slice, or `slices` is below 1.
        """
        self.check_index(index)
        if slices < 1:
            raise ParameterError(f"{slices} slices is out of range", "Use 1 or more.")
        chosen = range(max(first_of(index, slices), 0), min(first_of(index, slices) + slices, len(self)))
        notes = self._holes_between(chosen)
        if len(chosen) < slices:
            notes.append(f"{slices} slices were asked for, and there are {len(chosen)} around the point")
        return [replace(image, warnings=(*image.warnings, *notes)) for image in map(self.read, chosen)]

    def locate(self, point_mm: Vector) -> tuple[float, float, int]:
        """Patient coordinates => x and y in pixels from the image's corner, and the slice that shows the point.

        Raises:
            ImageError: the slices state no position in the patient.
            ParameterError: the point is outside, or slices are missing there.
        """
        planes = self.planes
        if not planes:
            raise ImageError("the slices state no position in the patient", "Give the point in voxels: --center X,Y,Z.")
        offsets = [plane.locate(point_mm) for plane in planes]
        index = int(np.argmin([abs(off) for _, _, off in offsets]))
        x, y, off = offsets[index]
        _check_shown(planes, index, off)
        return x, y, index

    def _holes_between(self, chosen: range) -> list[str]:
        planes = self.planes
        if not planes:
            return []
        gaps, inside = gaps_mm(planes), chosen[:-1]
        holes = sum(gaps[gap] > HOLE * _usual_mm(planes[0], gaps, gap) for gap in inside)
        return [f"slices are missing in {holes} of the {len(inside)} gaps between the slices"] if holes else []


def _check_shown(planes: Sequence[PatientPlane], index: int, off_mm: float) -> None:
    """Refuse a point that no slice shows.

    index: of its nearest slice. off_mm: its distance from that, along the normal.
    """
    gaps = gaps_mm(planes)
    gap = index if off_mm > 0 else index - 1  # the one that the point lies in
    away = abs(off_mm)
    inside = 0 <= gap < len(gaps)
    usual = _usual_mm(planes[0], gaps, min(max(gap, 0), len(gaps) - 1))
    if not inside and away > usual:
        raise ParameterError(
            f"the point lies {away:.3g} mm from the nearest slice",
            "Give DICOM patient coordinates (mm to the left, to the back and to the head) inside the series, and all of its slices.",
        )
    if inside and gaps[gap] > HOLE * usual and away > usual / 2 + SAME_MM:
        raise ParameterError(
            f"no slice shows the point: slices are missing there, it lies {away:.3g} mm from the nearest slice, and "
            f"neighbours are {usual:.3g} mm apart",
            "Give all of its slices, or the number of the slice to segment instead: --center X,Y,Z.",
        )


def _usual_mm(plane: PatientPlane, gaps: Float64, gap: int) -> float:
    """Return the usual gap around one gap, at an end of the stack at most that gap. Up to two slices are judged by their thickness."""
    if len(gaps) > 1:
        usual = usual_gap_mm(gaps, gap)
        return min(usual, float(gaps[gap])) if gap in (0, len(gaps) - 1) else usual
    if len(gaps):
        return min(plane.thickness_mm or np.inf, float(gaps[0]))
    return plane.thickness_mm or LONE_SLICE_MM


def first_of(index: int, slices: int) -> int:
    """Return the first of a number of slices with `index` in the middle; below 0 at the beginning of a series."""
    return index - (slices - 1) // 2


def gaps_mm(planes: Sequence[PatientPlane]) -> Float64:
    """Return the distances (n - 1,) between neighbouring slices, along their normal."""
    return np.asarray(np.diff([plane.depth for plane in planes]), np.float64)


def usual_gap_mm(gaps: Float64, index: int) -> float:
    """Return the gap that is usual around one of at least two gaps, itself left out."""
    sides = gaps[max(index - NEIGHBOURS, 0) : index], gaps[index + 1 : index + 1 + NEIGHBOURS]
    told = [float(side.min()) for side in sides if len(side) > 1]
    return max(told) if told else float(np.concatenate(sides).min())


def steps_mm(planes: Sequence[PatientPlane]) -> Float64:
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
