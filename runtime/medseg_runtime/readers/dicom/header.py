"""Questions to a DICOM header: what kind of object it is."""

from __future__ import annotations

import re

import pydicom
from pydicom.multival import MultiValue

from medseg_runtime.errors import ImageError
from medseg_runtime.readers.dicom.guard import DAMAGED
from medseg_runtime.readers.source import check_size

GREY = ("MONOCHROME1", "MONOCHROME2")
COLOR = (
    "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_420", "YBR_PARTIAL_422", "YBR_ICT", "YBR_RCT", "XYB",
)  # fmt: skip
PALETTE = "PALETTE COLOR"
PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")


def check_kind(dataset: pydicom.Dataset) -> int:
    """Return the number of frames of a grey or color image.

    Raises:
        ImageError: the object is of another kind, or its header is damaged.
    """
    kind = modality(dataset) or "of no stated modality"
    if kind == "SEG":
        raise ImageError("this DICOM object is a segmentation, not an image", "Give the image that it segments.")
    if "PixelDataProviderURL" in dataset:
        raise ImageError("the DICOM pixels are on a server (JPIP) and not in this file", "Export it with its pixels.")
    if not any(keyword in dataset for keyword in PIXELS):
        raise ImageError(
            f"this DICOM object ({kind}) holds no image", "Give an image, for example CT, MR, US or a photograph."
        )
    photometric = dataset.get("PhotometricInterpretation")
    if photometric not in (*GREY, PALETTE, *COLOR):
        raise ImageError("the DICOM image states no known photometric interpretation", DAMAGED)
    if dataset.get("SamplesPerPixel") != (3 if photometric in COLOR else 1):
        raise ImageError("the DICOM image's samples per pixel do not fit its photometric interpretation", DAMAGED)
    for keyword in ("BitsAllocated", "BitsStored", "PixelRepresentation") if "PixelData" in dataset else ():
        if not isinstance(dataset.get(keyword), int):
            raise ImageError(f"the DICOM image does not state {keyword}", DAMAGED)
    check_size(int(dataset.get("Columns") or 0), int(dataset.get("Rows") or 0))
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames < 1:
        raise ImageError("the DICOM image states no valid number of frames", DAMAGED)
    return frames


def modality(dataset: pydicom.Dataset) -> str:
    """Return the modality if it is a code such as CT, else an empty string: a free text may identify a patient."""
    code = str(dataset.get("Modality", ""))
    return code if re.fullmatch("[A-Z]{2,10}", code) else ""


def image_type(dataset: pydicom.Dataset) -> set[str]:
    """Return the values of Image Type, in capitals."""
    value = dataset.get("ImageType", "")
    return {str(part).strip().upper() for part in (value if isinstance(value, MultiValue) else [value])}
