"""Questions to a DICOM header: what kind of image it is, the values of one frame, and the frame's plane in the patient."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pydicom

from medseg_runtime.errors import ImageError
from medseg_runtime.readers.dicom.guard import DAMAGED
from medseg_runtime.readers.patient_plane import PatientPlane
from medseg_runtime.readers.source import check_size

GREY = ("MONOCHROME1", "MONOCHROME2")
FUNCTIONAL_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")


def check_kind(dataset: pydicom.Dataset) -> int:
    """Return the number of frames of a grey or color image.

    Raises:
        ImageError: the object is of another kind, or its header is damaged.
    """
    kind = modality(dataset) or "of no stated modality"
    if kind == "SEG":
        raise ImageError("this DICOM object is a segmentation, not an image", "Give the image that it segments.")
    if "PixelData" not in dataset:
        raise ImageError(
            f"this DICOM object ({kind}) holds no image", "Give an image, for example CT, MR, US or a photograph."
        )
    photometric = dataset.get("PhotometricInterpretation")
    if photometric not in (*GREY, "RGB", "PALETTE COLOR") and not str(photometric).startswith("YBR_"):
        raise ImageError("the DICOM image states no known photometric interpretation", DAMAGED)
    if dataset.get("SamplesPerPixel") != (1 if photometric in (*GREY, "PALETTE COLOR") else 3):
        raise ImageError("the DICOM image's samples per pixel do not fit its photometric interpretation", DAMAGED)
    check_size(int(dataset.get("Columns") or 0), int(dataset.get("Rows") or 0))
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames < 1:
        raise ImageError("the DICOM image states no valid number of frames", DAMAGED)
    return frames


def holds_an_image(dataset: pydicom.Dataset) -> bool:
    """Tell whether an object's SOP class stores images: not a directory, report, structure set or presentation state.

    Unknown and private classes count as images.
    """
    kind = pydicom.uid.UID(str(dataset.file_meta.get("MediaStorageSOPClassUID", "")))
    return kind.is_private or kind.name == kind or "Image Storage" in kind.name


def modality(dataset: pydicom.Dataset) -> str:
    """Return the modality if it is a code such as CT, else an empty string: a free text may identify a patient."""
    code = str(dataset.get("Modality", ""))
    return code if re.fullmatch("[A-Z]{2,10}", code) else ""


def is_enhanced(dataset: pydicom.Dataset) -> bool:
    """Tell whether values and geometry are kept per frame, in functional groups."""
    return any(keyword in dataset for keyword in FUNCTIONAL_GROUPS)


def frame_header(dataset: pydicom.Dataset, number: int) -> pydicom.Dataset:
    """Return a data set with the values of one frame at its top level, as in a single-frame object.

    number: of the frame, counted from 1.
    """
    if not is_enhanced(dataset):
        return dataset
    header = pydicom.Dataset()
    for element in dataset:
        if element.VR != "SQ" and element.keyword not in ("PixelData", ""):
            header.add(element)
    shared, per_frame = (list(dataset.get(keyword) or []) for keyword in FUNCTIONAL_GROUPS)
    if len(shared) > 1 or len(per_frame) not in (0, int(dataset.get("NumberOfFrames") or 1)):
        raise ImageError("the functional groups of the DICOM object do not fit its number of frames", DAMAGED)
    for groups in (*shared, *per_frame[number - 1 : number]):
        for macro in groups:
            if macro.VR == "SQ" and len(macro.value):
                header.update(macro.value[0])
    return header


def plane_of(dataset: pydicom.Dataset, number: int = 1) -> PatientPlane | None:
    """Return the plane of a frame in the patient; None if the header does not state it.

    number: of the frame, counted from 1. A multi-frame object that is not enhanced, such as RT Dose, states only the position of its
    first frame in a common way, and gives None.
    """
    if int(dataset.get("NumberOfFrames") or 1) > 1 and not is_enhanced(dataset):
        return None
    header = frame_header(dataset, number)
    try:
        thickness = numbers(header.get("SliceThickness"))
    except ValueError:  # not a number: only the thickness is lost
        thickness = []
    return PatientPlane.parse(
        numbers(header.get("ImagePositionPatient")),
        numbers(header.get("ImageOrientationPatient")),
        numbers(header.get("PixelSpacing")),
        thickness,
    )


def numbers(value: Any) -> list[float]:
    """Return the numbers of a DICOM value of any multiplicity; an empty list for an empty value."""
    if value is None or value == "":
        return []
    return (
        [float(part) for part in value]
        if isinstance(value, Sequence) and not isinstance(value, str)
        else [float(value)]
    )
