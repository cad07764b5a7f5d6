"""Questions to a DICOM header: what kind of object it is."""

from __future__ import annotations

import pydicom
from pydicom.multival import MultiValue

from medseg_runtime.errors import ImageError
from medseg_runtime.readers.dicom.guard import DAMAGED
from medseg_runtime.readers.dicom.modalities import MODALITIES
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
        raise ImageError("the DICOM image states no known PhotometricInterpretation", DAMAGED)
    if dataset.get("SamplesPerPixel") != (3 if photometric in COLOR else 1):
        raise ImageError("SamplesPerPixel of the DICOM image does not fit its PhotometricInterpretation", DAMAGED)
    if "PixelData" in dataset:
        _check_cells(dataset)
    for keyword in ("Rows", "Columns"):
        if not isinstance(dataset.get(keyword), int):
            raise ImageError(f"the DICOM image does not state {keyword}", DAMAGED)
    check_size(dataset.Columns, dataset.Rows)
    return number_of_frames(dataset)


def _check_cells(dataset: pydicom.Dataset) -> None:
    """Refuse elements without which the bytes of the pixels say nothing."""
    needed = ["BitsAllocated", "BitsStored", "PixelRepresentation"]
    if dataset.SamplesPerPixel > 1:
        needed.append("PlanarConfiguration")
    for keyword in needed:
        if not isinstance(dataset.get(keyword), int):
            raise ImageError(f"the DICOM image does not state {keyword}", DAMAGED)
    for keyword, valid in (
        ("BitsStored", 1 <= dataset.BitsStored <= dataset.BitsAllocated),
        ("PixelRepresentation", dataset.PixelRepresentation in (0, 1)),
        ("PlanarConfiguration", dataset.SamplesPerPixel == 1 or dataset.PlanarConfiguration in (0, 1)),
    ):
        if not valid:
            raise ImageError(f"{keyword} of the DICOM image is not valid", DAMAGED)


def number_of_frames(dataset: pydicom.Dataset) -> int:
    """Return Number of Frames; 1 if it is absent, empty or 0.

    Raises:
        ImageError: it is no number, or negative.
    """
    try:
        stated = float(dataset.get("NumberOfFrames") or 1)
        frames = int(stated) if stated.is_integer() else 0
    except Exception:  # noqa: BLE001 - pydicom raises many types for values that do not fit their VR
        frames = 0
    if frames < 1:
        raise ImageError("NumberOfFrames of the DICOM image is not valid", DAMAGED)
    return frames


def modality(dataset: pydicom.Dataset) -> str:
    """Return the modality if it is a defined term such as CT, in capitals; else an empty string: a free text may identify a patient."""
    code = str(dataset.get("Modality", "")).strip().upper()
    return code if code in MODALITIES else ""


def image_type(dataset: pydicom.Dataset) -> set[str]:
    """Return the values of Image Type, in capitals."""
    value = dataset.get("ImageType", "")
    return {str(part).strip().upper() for part in (value if isinstance(value, MultiValue) else [value])}
