"""Read series and volumes without importing their libraries before they are needed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from medseg_runtime.errors import ImageError
from medseg_runtime.readers.file_kind import volume_kind

if TYPE_CHECKING:
    from medseg_runtime.readers.dicom.series import Series, SeriesInfo
    from medseg_runtime.readers.volume.volume import Volume


def read_series(
    path: str | os.PathLike[str],
    series: int | str | None = None,
    *,
    instance: str | None = None,
    reference_frame: str | None = None,
) -> Series:
    """Read the headers of a series of DICOM slices, sorted by position; see `readers.dicom.series`.

    path: a folder, searched with its sub-folders, or a zip.
    series: which one, where there are several: the `number` or the `uid` that `list_series` gives.
    instance, reference_frame: take a series that holds this SOP Instance UID, or states this Frame of Reference UID.

    Raises:
        ImageError: no DICOM image, several series and none chosen, several orientations, two slices at one position, or a file that cannot
            be read.
        ParameterError: there is no such series.
    """
    from medseg_runtime.readers.dicom.series import read_series as read  # pydicom is slow to import

    return read(Path(path), series, instance=instance, reference_frame=reference_frame)


def list_series(path: str | os.PathLike[str]) -> list[SeriesInfo]:
    """List the series of DICOM images in a folder with its sub-folders, or in a zip: number, UID, modality, slices and size.

    Raises:
        ImageError: there is no DICOM image, or a file cannot be read.
    """
    from medseg_runtime.readers.dicom.series import list_series as listed

    return listed(Path(path))


def read_volume(path: str | os.PathLike[str]) -> Volume:
    """Read a volume file as a stack of slices: NIfTI, NRRD, MetaImage (MHA, MHD) or .npy; see `readers.volume.volume`.

    The reader is chosen by the file's content.

    Raises:
        ImageError: damaged, of more than three dimensions, without a position in the patient (other than .npy), or larger than memory.
    """
    path = Path(path)
    kind = volume_kind(path)
    if kind == "NIfTI":
        from medseg_runtime.readers.volume.nifti import read_nifti

        return read_nifti(path)
    if kind in ("NRRD", "MetaImage"):
        from medseg_runtime.readers.volume.itk import read_itk_volume

        return read_itk_volume(path, kind)
    if kind == "NumPy":
        from medseg_runtime.readers.volume.npy import read_npy

        return read_npy(path)
    raise ImageError("this is no volume", "Give a NIfTI, NRRD, MHA, MHD or .npy file.")
