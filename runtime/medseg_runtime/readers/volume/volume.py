"""A volume file as a stack of slices: NIfTI, NRRD, MetaImage (MHA, MHD), and NumPy's .npy.

    file => voxels (i, j, k) and their place in the patient => grid => slices as DICOM shows them

A volume that does not say how it lies in the patient is refused, because a slice of it could be shown mirrored. Of .npy alone, which says
nothing, the slices `array[z]` are taken as they are.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg_runtime.errors import ImageError
from medseg_runtime.machine.memory import available_bytes
from medseg_runtime.model.preprocess import Pixels
from medseg_runtime.readers.patient_plane import PatientPlane
from medseg_runtime.readers.source import SourceImage, VolumeOrigin, check_size
from medseg_runtime.readers.stack import Stack
from medseg_runtime.readers.voxel_grid import VoxelGrid

DAMAGED = "Copy it again, or convert it again from its DICOM series."
EXTRA = "Run `pip install 'medseglatdiff[volumes]'`."
WORKING_BYTES = 12
"""Peak memory per voxel besides the voxels: for the volume that is written on the same grid."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Volume(Stack):
    """The slices of a volume file."""

    voxels: npt.NDArray[Any] = field(repr=False)
    """(i, j, k) as stored; or (i, j, k, 3) RGB."""
    grid: VoxelGrid
    kind: str
    """NIfTI, NRRD, MetaImage or NumPy."""
    sha256: str
    """Of the file; of a header with a data file, of both together."""
    slope: float = 1.0
    intercept: float = 0.0
    """Intensity = slope x stored value + intercept."""
    value_range: tuple[float, float] | None = None
    """The intensities between which the file asks viewers to show it."""
    geometry: Any = field(default=None, repr=False)
    """NIfTI only: a header with nothing but the source's geometry, for volumes on its grid."""
    warnings: tuple[str, ...] = ()

    @property
    def planes(self) -> tuple[PatientPlane, ...]:
        planes = (self.grid.plane(index) for index in range(len(self)))
        return tuple(plane for plane in planes if plane is not None)

    def __len__(self) -> int:
        return len(self.grid)

    def pixel(self, point: tuple[float, float, float]) -> tuple[float, float, int]:
        """Voxel (i, j, k) of the file, whole numbers at voxel centers => x, y and slice."""
        return self.grid.pixel(point)

    def read(self, index: int) -> SourceImage:
        """Return one slice, counted from 0."""
        self.check_index(index)
        notes = list(self.warnings)
        pixels = _without_nan(self._intensities(index), notes)
        plane = self.grid.plane(index)
        return SourceImage(
            pixels=pixels,
            sha256=self.sha256,
            kind=self.kind,
            spacing_mm=None if plane is None else plane.spacing_mm,
            value_range=self.value_range,
            volume=VolumeOrigin(grid=self.grid, index=index, geometry=self.geometry),
            warnings=tuple(notes),
        )

    def _intensities(self, index: int) -> Pixels:
        stored = self.grid.view(self.voxels, index)
        stored = np.ascontiguousarray(stored.astype(stored.dtype.newbyteorder("=")))
        if (self.slope, self.intercept) == (1.0, 0.0):
            return stored
        with np.errstate(over="ignore", invalid="ignore"):  # refused as infinite values where they are used
            values = stored * np.float64(self.slope) + self.intercept
        whole = stored.dtype.kind in "ui" and self.slope.is_integer() and self.intercept.is_integer()
        return values.astype(np.int32) if whole and np.abs(values).max() < 2**31 else values


def check_voxels(shape: tuple[int, ...], itemsize: int) -> None:
    """Refuse a volume by its header, before memory is taken.

    Raises:
        ImageError: not three dimensions, or larger than free memory.
    """
    if len(shape) > 3:
        raise ImageError(
            f"the volume has {len(shape)} dimensions, as a time series or several contrasts have",
            "Save one of its 3-D volumes as a file of its own.",
        )
    needed, free = int(np.prod(shape, dtype=object)) * (itemsize + WORKING_BYTES), available_bytes()
    if free is not None and needed > free:
        raise ImageError(
            f"the volume needs {needed / 2**30:.1f} GiB of memory, and {free / 2**30:.1f} GiB are free",
            "Give a crop of it.",
        )


def check_grid(grid: VoxelGrid) -> list[str]:
    """Check the size of the slices, and warn if they are not axial.

    Raises:
        ImageError: too small or too large.
    """
    columns, rows, _ = (grid.shape[axis] for axis in grid.axes)
    check_size(columns, rows)
    if grid.affine is None or grid.plane_name == "axial":
        return []
    return [f"the slices are {grid.plane_name}: the volume's voxels are square in this plane, or finest"]


def _without_nan(pixels: Pixels, notes: list[str]) -> Pixels:
    if pixels.dtype.kind != "f" or not (missing := np.isnan(pixels)).any():
        return pixels
    if missing.all():
        raise ImageError("the slice holds no numbers, only NaN", "Give another slice.")
    notes.append("voxels without a number (NaN) were set to the lowest value of the slice")
    return np.where(missing, pixels[~missing].min(), pixels)
