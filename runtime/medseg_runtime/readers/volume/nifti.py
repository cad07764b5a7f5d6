"""NIfTI-1 and -2 in one file (.nii, .nii.gz). nibabel reads the header; the voxels follow it.

The file states two positions, sform and qform. The sform is used where it is set, as by nibabel and by most viewers.
"""

from __future__ import annotations

import hashlib
from importlib import import_module
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import numpy.typing as npt

from medseg_runtime.errors import ImageError
from medseg_runtime.files.read import opened
from medseg_runtime.readers.file_kind import GZIP
from medseg_runtime.readers.patient_plane import Float64
from medseg_runtime.readers.silence import warnings_muted
from medseg_runtime.readers.volume.volume import DAMAGED, EXTRA, Volume, check_grid, check_voxels
from medseg_runtime.readers.voxel_grid import VoxelGrid

RAS_FROM_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
SPACE_UNITS = 0x07
MILLIMETERS = {1: 1000.0, 3: 0.001}
"""Codes of the unit of space other than mm, in the lowest bits of `xyzt_units` (nifti1.h): meter and micron."""
NIFTI_1, NIFTI_2 = 348, 540
"""Bytes of a header."""
MAX_EXTENSIONS = 1 << 26
"""Bytes between header and voxels that are skipped."""
GEOMETRY = (
    "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z",
    "srow_x", "srow_y", "srow_z", "xyzt_units", "pixdim",
)  # fmt: skip
"""Fields that say where the voxels lie."""


def read_nifti(path: Path) -> Volume:
    """Read a NIfTI file.

    Raises:
        ImageError: damaged, two files, not three dimensions, not scalar, without a position, larger than memory, or nibabel is not installed.
    """
    try:
        nibabel = import_module("nibabel")
    except ImportError as error:
        raise ImageError("a NIfTI file needs nibabel, which is not installed", EXTRA) from error
    with warnings_muted():  # of damaged numbers in the header
        return _read(nibabel, path)


def _read(nibabel: Any, path: Path) -> Volume:
    with opened(path, ImageError, DAMAGED, limit=None) as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
        packed = file.read(2) == GZIP
        file.seek(0)
        try:
            content = _unpacking(file) if packed else file
            header = _header(nibabel, content)
            voxels = _voxels(header, content)
        except ImageError:
            raise
        except MemoryError as error:
            raise ImageError("the volume does not fit into memory", "Give a crop of it.") from error
        except Exception as error:  # of nibabel, gzip and zlib, of many types
            raise ImageError("the NIfTI file is damaged or cut short", DAMAGED) from error
    affine, notes = _affine(header)
    grid = VoxelGrid.of(cast("tuple[int, int, int]", voxels.shape), affine)
    slope, intercept = _scaling(header)
    low, high = float(header["cal_min"]), float(header["cal_max"])
    return Volume(
        voxels=voxels,
        grid=grid,
        kind="NIfTI",
        sha256=sha256,
        slope=slope,
        intercept=intercept,
        value_range=(low, high) if np.isfinite([low, high]).all() and low < high else None,
        geometry=_geometry(nibabel, header),
        warnings=(*notes, *check_grid(grid)),
    )


def _unpacking(file: IO[bytes]) -> IO[bytes]:
    from isal import igzip

    return cast("IO[bytes]", igzip.IGzipFile(fileobj=file, mode="rb"))  # type: ignore[no-untyped-call]


def _header(nibabel: Any, content: IO[bytes]) -> Any:
    block = content.read(NIFTI_1)
    kind = nibabel.Nifti1Header
    if NIFTI_2 in (int.from_bytes(block[:4], "little"), int.from_bytes(block[:4], "big")):
        kind, block = nibabel.Nifti2Header, block + content.read(NIFTI_2 - NIFTI_1)
    header = kind(block, check=False)
    if bytes(header["magic"]).startswith(b"ni"):
        raise ImageError(
            "the NIfTI header is in a file of its own (.hdr and .img)", "Save the volume as one file, .nii or .nii.gz."
        )
    return header


def _voxels(header: Any, content: IO[bytes]) -> npt.NDArray[Any]:
    """Return the stored values (i, j, k)."""
    shape = tuple(int(size) for size in header["dim"][1 : 1 + min(max(int(header["dim"][0]), 0), 7)])
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    shape = (*shape, *(1,) * (3 - len(shape)))
    dtype = header.get_data_dtype()
    if min(shape) < 1:
        raise ImageError("the NIfTI header states no valid size", DAMAGED)
    if dtype.kind not in "uif":
        raise ImageError(
            "the voxels of the NIfTI file are no plain numbers, but colors or complex", "Save one channel of it."
        )
    check_voxels(shape, dtype.itemsize)
    between = int(header["vox_offset"]) - int(header["sizeof_hdr"])
    if not 0 <= between <= MAX_EXTENSIONS:
        raise ImageError("the NIfTI header states no valid offset of its voxels", DAMAGED)
    content.read(between)
    wanted = int(np.prod(shape, dtype=object)) * dtype.itemsize
    data = content.read(wanted)
    if len(data) != wanted:
        raise ImageError("the NIfTI file is cut short", DAMAGED)
    content.read(1)  # at its end, a gzip's checksum is compared
    return np.frombuffer(data, dtype).reshape(shape, order="F")


def _affine(header: Any) -> tuple[Float64, list[str]]:
    """Return the matrix (4, 4) from voxels to DICOM patient coordinates, and warnings.

    Raises:
        ImageError: the header states none.
    """
    sform, qform = (form if code else None for form, code in (_form(header, "sform"), _form(header, "qform")))
    chosen = qform if sform is None else sform
    if chosen is None:
        raise ImageError(
            "the NIfTI file does not state how it lies in the patient (sform and qform codes are 0), so that its slices could be mirrored",
            "Convert it again from its DICOM series, or set its sform or qform.",
        )
    notes = []
    if sform is not None and qform is not None and np.abs(sform - qform).max() > 0.01 * np.abs(sform[:3, :3]).max():
        notes.append("the NIfTI file states two positions in the patient (sform and qform), and the sform was used")
    scale = MILLIMETERS.get(int(header["xyzt_units"]) & SPACE_UNITS, 1.0)
    return np.asarray(RAS_FROM_LPS @ np.diag([scale, scale, scale, 1.0]) @ chosen, np.float64), notes


def _scaling(header: Any) -> tuple[float, float]:
    """Return slope and intercept. A slope of 0, and NaN as nibabel writes it, mean that the values are not scaled (nifti1.h).

    Raises:
        ImageError: one of them is infinite, or the intercept alone is NaN.
    """
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or np.isnan(slope):
        return 1.0, 0.0
    if not np.isfinite([slope, intercept]).all():
        raise ImageError("the NIfTI header states no valid scaling (scl_slope, scl_inter)", DAMAGED)
    return slope, intercept


def _form(header: Any, name: str) -> tuple[Float64, int]:
    try:
        matrix, code = getattr(header, f"get_{name}")(coded=True)
    except ValueError:  # a quaternion that is none
        return np.eye(4), 0
    return (np.eye(4), 0) if matrix is None else (np.asarray(matrix, np.float64), int(code))


def _geometry(nibabel: Any, header: Any) -> Any:
    """Return a header with the fields of the geometry alone: others may name the patient."""
    geometry = nibabel.Nifti1Header()
    for field in GEOMETRY:
        geometry[field] = header[field]
    return geometry
