"""Write masks and maps as NIfTI volumes, at the position of their DICOM source.

    consensus.nii.gz    (column, row, slice) uint8 0 and 1
    confidence.nii.gz   (column, row, slice) float32 in [0, 1]
    samples.nii.gz      (column, row, slice, sample) uint8 0 and 1

With several classes each has its own files, `consensus-<class>.nii.gz` and so on. Voxels are the source's pixels, not resampled.
The affine is in NIfTI's RAS coordinates; DICOM's are LPS. The same input gives the same bytes.
"""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from importlib import import_module

import numpy as np

from medseg_runtime.errors import ParameterError
from medseg_runtime.files.names import folder_names
from medseg_runtime.readers.dicom.guard import EXTRA
from medseg_runtime.readers.dicom.series import steps_mm
from medseg_runtime.readers.patient_plane import TILT, Float64, PatientPlane
from medseg_runtime.readers.source import SourceImage
from medseg_runtime.result.segmentation import Segmentation

RAS_FROM_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
UNKNOWN_MM = 1.0
"""Thickness of a single slice that does not state one; a volume needs a value."""


def nifti_files(results: Sequence[Segmentation]) -> dict[str, bytes]:
    """Return the content of the NIfTI files, by name.

    results: of one image, or of neighbouring slices of one series in their order.

    Raises:
        ParameterError: a source has no position in the patient, or nibabel is not installed.
        ImageError: the slices are not evenly spaced.
    """
    affine = RAS_FROM_LPS @ _affine([result.source for result in results])
    names = folder_names(results[0].classes)
    files = {}
    for index, name in enumerate(names):
        suffix = f"-{name}" if len(names) > 1 else ""
        chosen = (..., index, slice(None), slice(None)) if len(names) > 1 else ...
        for kind, maps, dtype in (
            ("consensus", [result.consensus for result in results], np.uint8),
            ("confidence", [result.confidence for result in results], np.float32),
            ("samples", [result.masks for result in results], np.uint8),
        ):
            volume = np.stack([array[chosen] for array in maps]).astype(dtype)  # (slice, [sample,] row, column)
            files[f"{kind}{suffix}.nii.gz"] = _encoded(np.moveaxis(volume, 0, -3).T, affine)
    return files


def check_sources(images: Sequence[SourceImage]) -> None:
    """Check, before anything is computed, that NIfTI files can be written.

    Raises:
        ParameterError: a source has no position in the patient, or nibabel is not installed.
        ImageError: the slices are not evenly spaced.
    """
    _affine(images)
    try:
        import_module("nibabel")
    except ImportError as error:
        raise ParameterError("a NIfTI file needs nibabel, which is not installed", EXTRA) from error


def _affine(images: Sequence[SourceImage]) -> Float64:
    planes: list[PatientPlane] = []
    for image in images:
        if image.dicom is None or image.dicom.plane is None:
            raise ParameterError(
                "a NIfTI file needs a position in the patient, which this image does not state",
                "Leave --nifti out, or give a DICOM image with a position, such as CT or MR.",
            )
        planes.append(image.dicom.plane)
    step = steps_mm(planes)
    if len(planes) == 1:
        step = step * (planes[0].thickness_mm or UNKNOWN_MM)
    return planes[0].affine(step)


def _is_sheared(affine: Float64) -> bool:
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return bool(np.abs(axes.T @ axes - np.eye(3)).max() > TILT)


def _encoded(volume: np.ndarray, affine: Float64) -> bytes:
    nibabel = import_module("nibabel")
    image = nibabel.Nifti1Image(volume, affine)
    image.set_sform(affine, code="scanner")
    # Slices of a tilted gantry are sheared, which a qform cannot express: write none rather than a wrong one.
    image.set_qform(None if _is_sheared(affine) else affine, code="unknown" if _is_sheared(affine) else "scanner")
    image.header.set_xyzt_units("mm")
    return gzip.compress(image.to_bytes(), mtime=0)
