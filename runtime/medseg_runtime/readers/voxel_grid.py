"""A volume's voxels as slices that look as DICOM shows them, and back.

    axial slices       columns to the patient's left, rows to the back, slices to the head
    coronal            columns to the left, rows to the feet, slices to the back
    sagittal           columns to the back, rows to the feet, slices to the right

Which? Axial, if the voxels of axial slices are square; else the plane whose voxels are; else the one across the coarsest axis. Scanners
measure square pixels, and so this is the plane in which the volume was measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg_runtime.errors import ImageError
from medseg_runtime.readers.patient_plane import Float64, PatientPlane

SQUARE = 0.01
"""Largest relative difference of two spacings that count as equal."""
FARTHEST_MM = 1e6
"""Larger distances are not those of a patient."""
FLAT = 1e-3
"""Determinant of unit vectors that nearly lie in one plane."""
LEFT, BACK, HEAD = 0, 1, 2
PLANES = {HEAD: "axial", BACK: "coronal", LEFT: "sagittal"}
"""Slices across each patient axis, in the order of preference."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VoxelGrid:
    """Voxels (i, j, k) in the patient, and how slices are taken from them."""

    shape: tuple[int, int, int]
    affine: Float64 | None
    """(4, 4) from voxel (i, j, k), whole numbers at voxel centers, to DICOM patient coordinates in mm; None if they are not known."""
    axes: tuple[int, int, int] = (0, 1, 2)
    """The voxel axes along which columns, rows and slices count."""
    flips: tuple[bool, bool, bool] = (False, False, False)
    """Whether columns, rows and slices count against them."""

    @classmethod
    def of(cls, shape: tuple[int, int, int], affine: Float64) -> VoxelGrid:
        """Choose the slices of a volume.

        Raises:
            ImageError: the matrix is singular or not finite, or the axes in the plane are not at right angles.
        """
        directions, spacing = _directions(affine)  # (patient axis, voxel axis)
        voxel_axis = max(
            permutations(range(3)), key=lambda order: sum(abs(directions[p, v]) for p, v in enumerate(order))
        )
        across = _sliced_across(spacing, voxel_axis)
        column, row = (axis for axis in (LEFT, BACK, HEAD) if axis != across)
        axes = voxel_axis[column], voxel_axis[row], voxel_axis[across]
        # Columns to the left or back; rows to the back or, where they run along the body, to the feet.
        flip_column = directions[column, axes[0]] < 0
        flip_row = (directions[row, axes[1]] < 0) != (row == HEAD)
        signs = np.where([flip_column, flip_row], -1, 1)
        normal = np.cross(signs[0] * directions[:, axes[0]], signs[1] * directions[:, axes[1]])
        flips = bool(flip_column), bool(flip_row), bool(normal @ directions[:, axes[2]] < 0)
        grid = cls(shape=shape, affine=affine, axes=axes, flips=flips)
        grid.plane(0)
        return grid

    @property
    def plane_name(self) -> str:
        """Axial, coronal or sagittal: the nearest of them."""
        assert self.affine is not None
        normal = np.cross(self.affine[:3, self.axes[0]], self.affine[:3, self.axes[1]])
        return PLANES[int(np.argmax(np.abs(normal)))]

    def __len__(self) -> int:
        """Return the number of slices."""
        return self.shape[self.axes[2]]

    def view(self, voxels: npt.NDArray[Any], index: int) -> npt.NDArray[Any]:
        """Return a slice (H, W) of an array of the grid's shape, without a copy: what is written to it is written to the array."""
        columns, rows, slices = self.axes
        image = np.moveaxis(voxels, (rows, columns, slices), (0, 1, 2))[:, :, self._voxel(2, index)]
        return image[:: -1 if self.flips[1] else 1, :: -1 if self.flips[0] else 1]

    def pixel(self, voxel: tuple[float, float, float]) -> tuple[float, float, int]:
        """Voxel (i, j, k) => x and y in pixels from the slice's upper left corner, and the slice, counted from 0."""
        column, row, number = (self._voxel(along, voxel[axis]) for along, axis in enumerate(self.axes))
        return column + 0.5, row + 0.5, round(number)

    def stored_index(self, index: int) -> int:
        """Return the voxel index of a slice along its axis in the file."""
        return int(self._voxel(2, index))

    def plane(self, index: int) -> PatientPlane | None:
        """Return the plane of a slice; None if the grid has no position in the patient.

        Raises:
            ImageError: the axes in the plane are not at right angles.
        """
        if self.affine is None:
            return None
        first = np.ones(4)
        for along, count in enumerate((0, 0, index)):
            first[self.axes[along]] = self._voxel(along, count)
        steps = self.affine[:3, list(self.axes)] * np.where(self.flips, -1, 1)
        spacing = np.linalg.norm(steps, axis=0)
        row, column = steps[:, 0] / spacing[0], steps[:, 1] / spacing[1]
        thickness = abs(float(np.cross(row, column) @ steps[:, 2]))
        plane = PatientPlane.parse(
            (self.affine @ first)[:3].tolist(), [*row, *column], [float(spacing[1]), float(spacing[0])], [thickness]
        )
        if plane is None:
            raise ImageError(
                "the rows and columns of the volume are not at right angles", "Resample it to a grid that is."
            )
        return plane

    def _voxel(self, along: int, count: Any) -> Any:
        """Turn a count of columns (0), rows (1) or slices (2) into a voxel index, or back."""
        return self.shape[self.axes[along]] - 1 - count if self.flips[along] else count


def _directions(affine: Float64) -> tuple[Float64, Float64]:
    """Return the unit vectors (3, 3) of the voxel axes, in columns, and the spacings (3,).

    Raises:
        ImageError: the matrix is singular, not finite, or beyond any patient.
    """
    matrix = affine[:3, :3]
    if np.abs(affine).max() < FARTHEST_MM:  # false for NaN too
        spacing = np.linalg.norm(matrix, axis=0)
        if spacing.min() > 1 / FARTHEST_MM and abs(np.linalg.det(matrix / spacing)) > FLAT:
            return matrix / spacing, spacing
    raise ImageError("the volume states no valid position in the patient", "Convert it again from its DICOM series.")


def _sliced_across(spacing: Float64, voxel_axis: tuple[int, ...]) -> int:
    """Return the patient axis across which slices are taken."""
    for across in PLANES:
        one, other = (spacing[voxel_axis[axis]] for axis in (LEFT, BACK, HEAD) if axis != across)
        if abs(one - other) <= SQUARE * max(one, other):
            return across
    return max(PLANES, key=lambda axis: float(spacing[voxel_axis[axis]]))
