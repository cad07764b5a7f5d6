"""Whether Siemens' private data say that an image is a mosaic of slices.

That takes a position away and never gives one. De-identification and exports often keep one of the places alone.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pydicom

CSA_NAME = b"NumberOfImagesInMosaic"
CSA_VALUE = slice(100, 112)
"""Where the first value of a CSA tag lies from the beginning of its name (64 bytes), behind its VM, VR, syngo type, number of items
and a mark (20 bytes), and the lengths of the first item (16 bytes): https://nipy.org/nibabel/dicom/siemens_csa.html."""


def states_mosaic(dataset: pydicom.Dataset) -> bool:
    """Tell whether Number of Images in Mosaic is above 1, in (0019,xx0A) or in the CSA image header, (0029,xx10)."""
    number = _private(dataset, 0x0019, "SIEMENS MR HEADER", 0x0A)
    return _above_one(number) or _above_one(_csa_value(_private(dataset, 0x0029, "SIEMENS CSA HEADER", 0x10)))


def _private(dataset: pydicom.Dataset, group: int, creator: str, element: int) -> Any:
    try:
        return dataset.private_block(group, creator)[element].value
    except Exception:  # noqa: BLE001 - absent, or a value that does not fit its VR
        return None


def _csa_value(header: Any) -> bytes | None:
    at = header.find(CSA_NAME + b"\0") if isinstance(header, bytes) else -1
    return None if at < 0 else header[at:][CSA_VALUE].partition(b"\0")[0]


def _above_one(value: Any) -> bool:
    for number in [value] if isinstance(value, str | bytes | int) else value or []:
        with suppress(TypeError, ValueError):
            if int(number) > 1:
                return True
    return False
