"""Write masks and maps as NIfTI volumes: at the position of their DICOM source, or on the grid of their source volume.

    consensus.nii.gz    (column, row, slice) uint8 0 and 1
    confidence.nii.gz   (column, row, slice) float32 in [0, 1]
    samples.nii.gz      (column, row, slice, sample) uint8 0 and 1

With several classes each has its own files, `consensus-<class>.nii.gz` and so on. Voxels are the source's pixels, not resampled. Of a volume
file they are all of its voxels, in its order, and zero outside the segmented slices: the files lie on the source in any viewer.
The affine is in NIfTI's RAS coordinates; DICOM's are LPS. The same input gives the same bytes.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, cast

import numpy as np
from isal import igzip

from medseg_runtime.errors import ParameterError
from medseg_runtime.files.names import folder_names
from medseg_runtime.readers.dicom.guard import EXTRA
from medseg_runtime.readers.patient_plane import TILT, Float64
from medseg_runtime.readers.source import SourceImage
from medseg_runtime.readers.stack import steps_mm
from medseg_runtime.readers.voxel_grid import VoxelGrid
from medseg_runtime.result.segmentation import Segmentation

RAS_FROM_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
LEVEL = 2
"""Of deflate: on mostly empty volumes as small as zlib's 6, in a quarter of the time."""
SINGLE_FILE = 352, b"n+1"
"""Where the voxels begin in a file with a header and nothing else, and its magic (nifti1.h)."""
UNKNOWN_MM = 1.0
"""Thickness of a single slice that does not state one; a volume needs a value."""


def nifti_files(results: Sequence[Segmentation]) -> dict[str, bytes]:
    """Return the content of the NIfTI files, by name.

    results: of one image, or of neighbouring slices of one series or volume in their order.

    Raises:
        ParameterError: a source has no position in the patient, or nibabel is not installed.
        ImageError: the slices are not evenly spaced.
    """
    header, box = _box([result.source for result in results])
    names = folder_names(results[0].classes)
    files = {}
    for index, name in enumerate(names):
        suffix = f"-{name}" if len(names) > 1 else ""
        chosen = (..., index, slice(None), slice(None)) if len(names) > 1 else ...
        for kind, maps, dtype in (
            ("consensus", [[result.consensus[chosen]] for result in results], np.uint8),
            ("confidence", [[result.confidence[chosen]] for result in results], np.float32),
            ("samples", [result.masks[chosen] for result in results], np.uint8),
        ):
            volumes = (box.filled(images, dtype) for images in zip(*maps, strict=True))
            shape = (*box.shape, results[0].samples) if kind == "samples" else box.shape
            files[f"{kind}{suffix}.nii.gz"] = _encoded(header, shape, dtype, volumes)
    return files


def check_sources(images: Sequence[SourceImage]) -> None:
    """Check, before anything is computed, that NIfTI files can be written.

    Raises:
        ParameterError: a source has no position in the patient, or nibabel is not installed.
        ImageError: the slices are not evenly spaced.
    """
    try:
        import_module("nibabel")
    except ImportError as error:
        raise ParameterError("a NIfTI file needs nibabel, which is not installed", EXTRA) from error
    _box(images)


@dataclass(frozen=True, slots=True)
class _Box:
    """The voxels of a file, and which of their slices were segmented."""

    grid: VoxelGrid
    slices: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.grid.shape

    def filled(self, images: Iterable[np.ndarray], dtype: type) -> np.ndarray:
        """Return a volume with images (H, W) in its segmented slices, zero elsewhere."""
        volume: np.ndarray = np.zeros(self.shape, dtype, order="F")
        for index, image in zip(self.slices, images, strict=True):
            self.grid.view(volume, index)[:] = image
        return volume


def _box(images: Sequence[SourceImage]) -> tuple[Any, _Box]:
    """Return the header with the geometry, and the voxels: of a volume file its own, of DICOM slices the box round them."""
    origin = images[0].volume
    if origin is not None and origin.grid.affine is not None:
        header = _header(RAS_FROM_LPS @ origin.grid.affine) if origin.geometry is None else origin.geometry.copy()
        return header, _Box(origin.grid, tuple(image.volume.index for image in images if image.volume is not None))
    planes = [image.plane for image in images]
    known = [plane for plane in planes if plane is not None]
    if len(known) != len(planes):
        raise ParameterError(
            "a NIfTI file needs a position in the patient, which this image does not state",
            "Leave --nifti out, or give a DICOM image with a position, such as CT or MR.",
        )
    step = steps_mm(known)
    if len(known) == 1:
        step = step * (known[0].thickness_mm or UNKNOWN_MM)
    affine = known[0].affine(step)
    height, width = images[0].pixels.shape[:2]
    grid = VoxelGrid(shape=(width, height, len(images)), affine=affine)
    return _header(RAS_FROM_LPS @ affine), _Box(grid, tuple(range(len(images))))


def _is_sheared(affine: Float64) -> bool:
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return bool(np.abs(axes.T @ axes - np.eye(3)).max() > TILT)


def _header(affine: Float64) -> Any:
    nibabel = import_module("nibabel")
    header = nibabel.Nifti1Image(np.zeros((1, 1, 1), np.uint8), affine).header
    header.set_sform(affine, code="scanner")
    # Slices of a tilted gantry are sheared, which a qform cannot express: write none rather than a wrong one.
    header.set_qform(None if _is_sheared(affine) else affine, code="unknown" if _is_sheared(affine) else "scanner")
    header.set_xyzt_units("mm")
    return header


def _encoded(source: Any, shape: tuple[int, ...], dtype: type, volumes: Iterable[np.ndarray]) -> bytes:
    """Return a compressed file, made of one volume after the other, which need not be in memory together."""
    header = source.copy()
    header.set_data_dtype(dtype)
    zooms = source["pixdim"][1:4].tolist()
    header.set_data_shape(shape)
    header.set_zooms([*zooms, *(1.0,) * (len(shape) - 3)])
    header["vox_offset"], header["magic"] = SINGLE_FILE
    header.set_slope_inter(1.0, 0.0)
    content = io.BytesIO()
    with cast("Any", igzip).IGzipFile(fileobj=content, mode="wb", filename="", mtime=0, compresslevel=LEVEL) as packed:
        packed.write(header.binaryblock + bytes(4))  # four zeros: no extensions
        for volume in volumes:
            packed.write(volume.tobytes(order="F"))
    return content.getvalue()
