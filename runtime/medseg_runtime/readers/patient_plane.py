"""Planes in DICOM patient coordinates: millimetres, x to the left, y to the back, z to the head (PS3.3, C.7.6.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]
Vector = tuple[float, float, float]

TILT = 1e-3
"""Largest deviation of direction cosines from unit length and right angles that counts as rounding."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PatientPlane:
    """The pixel grid of one image in the patient (PS3.3, C.7.6.2.1.1), and its slice thickness."""

    position: Vector
    """Center of the first pixel."""
    along_row: Vector
    """Unit vector in which the column index grows."""
    along_column: Vector
    """Unit vector in which the row index grows."""
    spacing_mm: tuple[float, float]
    """Distance of rows, then of columns."""
    thickness_mm: float | None
    """Slice thickness, greater than 0; None if the header does not state it."""

    @classmethod
    def parse(
        cls,
        position: Sequence[float],
        orientation: Sequence[float],
        spacing: Sequence[float],
        thickness: Sequence[float] = (),
    ) -> PatientPlane | None:
        """Return the plane of Image Position, Image Orientation and Pixel Spacing; None if they are not valid.

        thickness: Slice Thickness, empty if it is not stated.
        """
        if (len(position), len(orientation), len(spacing)) != (3, 6, 2):
            return None
        row, column = np.asarray(orientation[:3], np.float64), np.asarray(orientation[3:], np.float64)
        if not np.isfinite([*position, *orientation, *spacing]).all() or min(spacing) <= 0:
            return None
        skew = [row @ row - 1, column @ column - 1, row @ column]
        if np.abs(skew).max() > TILT:
            return None
        return cls(
            position=_vector(np.asarray(position, np.float64)),
            along_row=_vector(row),
            along_column=_vector(column),
            spacing_mm=(float(spacing[0]), float(spacing[1])),
            thickness_mm=next((float(mm) for mm in thickness[:1] if np.isfinite(mm) and mm > 0), None),
        )

    @property
    def normal(self) -> Float64:
        """Unit vector (3,) perpendicular to the plane. Slices of a series are sorted along it."""
        return np.cross(self.along_row, self.along_column)

    @property
    def depth(self) -> float:
        """Position along the normal in mm, from the origin of the patient coordinates."""
        return float(np.dot(self.position, self.normal))

    def locate(self, point_mm: Vector) -> tuple[float, float, float]:
        """Patient coordinates => (x, y) in pixels from the image's upper left corner, and the distance from the plane in mm."""
        offset = np.subtract(point_mm, self.position)
        x = float(offset @ np.asarray(self.along_row)) / self.spacing_mm[1] + 0.5
        y = float(offset @ np.asarray(self.along_column)) / self.spacing_mm[0] + 0.5
        return x, y, float(offset @ self.normal)

    def affine(self, step: Float64) -> Float64:
        """Return the matrix (4, 4) from (column, row, slice) to patient coordinates; step: (3,) from one slice to the next."""
        matrix = np.eye(4)
        matrix[:3, 0] = np.asarray(self.along_row) * self.spacing_mm[1]
        matrix[:3, 1] = np.asarray(self.along_column) * self.spacing_mm[0]
        matrix[:3, 2] = step
        matrix[:3, 3] = self.position
        return matrix


def _vector(values: Float64) -> Vector:
    return float(values[0]), float(values[1]), float(values[2])
