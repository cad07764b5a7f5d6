"""NRRD (.nrrd, .nhdr) and MetaImage (.mha, .mhd), by way of SimpleITK.

A header may name a data file. It must lie in the same folder: a header from elsewhere must not read other files of this machine.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from medseg_runtime.errors import ImageError
from medseg_runtime.files.names import printable
from medseg_runtime.files.read import opened
from medseg_runtime.readers.volume.volume import DAMAGED, EXTRA, Volume, check_grid, check_voxels
from medseg_runtime.readers.voxel_grid import VoxelGrid

MIRRORED = "the volume does not state how it lies in the patient, so that its slices could be mirrored"
MAX_HEADER = 1 << 20
LONGEST_ITEM = 8
"""Bytes of the largest voxel."""
NRRD_SPACES = {
    "left-posterior-superior", "lps", "right-anterior-superior", "ras", "left-anterior-superior", "las",
}  # fmt: skip
"""Spaces that name the patient's axes and that ITK knows."""


def read_itk_volume(path: Path, kind: str) -> Volume:
    """Read a volume.

    kind: NRRD or MetaImage.

    Raises:
        ImageError: damaged, not three dimensions, not scalar, without a position, larger than memory, or SimpleITK is not installed.
    """
    try:
        itk = import_module("SimpleITK")
    except ImportError as error:
        raise ImageError(f"a {kind} file needs SimpleITK, which is not installed", EXTRA) from error
    fields = _fields(path, kind)
    sha256 = _sha256([path, *_data_files(path, kind, fields)])
    _check_orientation(kind, fields)
    try:
        image = _read(itk, path, kind)
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError("the volume does not fit into memory", "Give a crop of it.") from error
    except Exception:  # noqa: BLE001 - RuntimeError of ITK; `from None` because its text quotes paths
        raise ImageError(f"the {kind} file is damaged or cut short", DAMAGED) from None
    voxels = np.asarray(itk.GetArrayFromImage(image)).T  # (i, j, k)
    grid = VoxelGrid.of((voxels.shape[0], voxels.shape[1], voxels.shape[2]), _affine(image))
    return Volume(voxels=voxels, grid=grid, kind=kind, sha256=sha256, warnings=tuple(check_grid(grid)))


def _read(itk: Any, path: Path, kind: str) -> Any:
    reader = itk.ImageFileReader()
    reader.SetImageIO("NrrdImageIO" if kind == "NRRD" else "MetaImageIO")
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    if reader.GetNumberOfComponents() != 1:
        raise ImageError(
            f"each voxel of the {kind} file holds several numbers, as a color or a vector", "Save one channel of it."
        )
    check_voxels(reader.GetSize(), LONGEST_ITEM)
    if reader.GetDimension() != 3:
        raise ImageError(f"the {kind} file has {reader.GetDimension()} dimensions", "Give a volume of three.")
    return reader.Execute()


def _affine(image: Any) -> Any:
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return affine


def _fields(path: Path, kind: str) -> dict[str, str]:
    """Return the fields of a header, names in lower case."""
    with opened(path, ImageError, DAMAGED, limit=None) as file:
        head = file.read(MAX_HEADER).decode("latin-1")
    fields = {}
    for line in _header_lines(head, kind):
        name, separator, value = line.partition(":" if kind == "NRRD" else "=")
        if separator:
            fields[name.strip().lower()] = value.strip()
    return fields


def _header_lines(head: str, kind: str) -> Iterator[str]:
    """Yield the lines up to the one that ends the header: an empty one of NRRD, the data file of MetaImage."""
    for line in head.splitlines():
        if kind == "NRRD" and not line.strip():
            return
        yield line
        if kind == "MetaImage" and line.strip().lower().startswith("elementdatafile"):
            return


def _data_files(path: Path, kind: str, fields: dict[str, str]) -> list[Path]:
    """Return the data file that a header names, if it names one.

    Raises:
        ImageError: it names several, or one in another folder.
    """
    name = (
        fields.get("data file", fields.get("datafile", ""))
        if kind == "NRRD"
        else fields.get("elementdatafile", "LOCAL")
    )
    if not name or name.upper() == "LOCAL":
        return []
    if re.search(r"[/\\%]", name) or name.split()[0].upper() == "LIST" or name == "..":
        raise ImageError(
            f"the {kind} header names several data files, or one in another folder", "Save the volume as one file."
        )
    return [path.parent / name]


def _sha256(paths: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        with opened(
            path, ImageError, "Put the data file beside its header.", limit=None, name=printable(path.name)
        ) as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _check_orientation(kind: str, fields: dict[str, str]) -> None:
    if kind == "NRRD":
        oriented = fields.get("space", "").lower() in NRRD_SPACES and "space directions" in fields
        placed = "space origin" in fields
        if set(re.findall(r"[^\s\"]+", fields.get("space units", "mm"))) != {"mm"}:
            raise ImageError("the NRRD file states another unit of space than mm", "Save it again in mm.")
    else:
        oriented = any(name in fields for name in ("transformmatrix", "rotation", "orientation"))
        placed = any(name in fields for name in ("offset", "origin", "position"))
        placed &= "elementspacing" in fields or "elementsize" in fields
    if not oriented:
        raise ImageError(MIRRORED, "Convert it again from its DICOM series.")
    if not placed:
        raise ImageError(
            f"the {kind} file does not state its origin and spacing", "Convert it again from its DICOM series."
        )
