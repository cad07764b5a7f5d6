"""Read a series without importing pydicom before it is needed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from medseg_runtime.readers.dicom.series import Series


def read_series(folder: str | os.PathLike[str]) -> Series:
    """Read the headers of a folder of DICOM slices, sorted by position; see `readers.dicom.series`.

    Raises:
        ImageError: no DICOM file, several series or orientations, two slices at one position, or a damaged file.
    """
    from medseg_runtime.readers.dicom import series  # pydicom is slow to import

    return series.read_series(Path(folder))
