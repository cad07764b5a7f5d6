"""Prepare a source's header so that another DICOM object can refer to it, and read a frame's position."""

from __future__ import annotations

import copy
from typing import Any

import pydicom

from medseg_runtime.errors import OutputError
from medseg_runtime.readers.dicom.frame_header import FUNCTIONAL_GROUPS, is_enhanced
from medseg_runtime.readers.source import DicomOrigin, SourceImage

# Attributes that a SEG must have, empty if unknown, and that some sources omit.
NEVER_ABSENT = (
    "AccessionNumber", "PatientBirthDate", "PatientID", "PatientName", "PatientSex", "ReferringPhysicianName",
    "StudyDate", "StudyID", "StudyTime",
)  # fmt: skip
UTF_8 = "ISO_IR 192"


def reference(image: SourceImage) -> pydicom.Dataset:
    """Return a copy of a source's header that highdicom can refer to: one frame, and every required attribute.

    Raises:
        OutputError: it has no UID to refer to.
    """
    assert image.dicom is not None
    header = copy.deepcopy(image.dicom.header)
    if not isinstance(header.get("SpecificCharacterSet", ""), str):
        # Code extensions, as in most Japanese, Korean and Chinese studies (PS3.3, C.12.1.1.2). highdicom does not take all of
        # them, so names are re-encoded as UTF-8.
        header.decode()
        header.SpecificCharacterSet = UTF_8
    for keyword in NEVER_ABSENT:
        if keyword not in header:
            setattr(header, keyword, "")
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
        if not header.get(keyword):
            raise OutputError(
                f"the source has no {pydicom.datadict.dictionary_description(keyword)}",
                "Export it again from its archive, or leave --dicom-seg out.",
            )
    if image.dicom.frames > 1:
        header.NumberOfFrames = 1
        shared, own = (
            header[keyword][index] if header.get(keyword) else pydicom.Dataset()
            for keyword, index in zip(FUNCTIONAL_GROUPS, (0, image.dicom.frame - 1), strict=True)
        )
        for keyword in (
            "PixelMeasuresSequence",
            "PlaneOrientationSequence",
        ):  # highdicom reads them from the shared groups
            if keyword in own and keyword not in shared:
                shared[keyword] = own[keyword]
        if not has_position(image.dicom):
            shared.PixelMeasuresSequence = [pydicom.Dataset()]  # highdicom requires it; seg.py removes it again
        header.SharedFunctionalGroupsSequence, header.PerFrameFunctionalGroupsSequence = [shared], [own]
    if not has_position(image.dicom):
        # Without a position in the patient a SEG must not state distances.
        header.pop("PixelSpacing", None)
    return header


def has_position(origin: DicomOrigin) -> bool:
    """Tell whether an image has a position in the patient, in a frame of reference that other objects can share."""
    return origin.plane is not None and "FrameOfReferenceUID" in origin.header


def position_of(header: pydicom.Dataset) -> Any:
    """Return the Image Position (Patient) of a header's only frame, or None."""
    place = functional_group(header, 0, "PlanePositionSequence") if is_enhanced(header) else header
    return None if place is None else place.get("ImagePositionPatient")


def functional_group(dataset: pydicom.Dataset, number: int, keyword: str) -> Any:
    """Return a frame's own or shared functional group, or None. number: of the frame, from 0."""
    shared, per_frame = (dataset[groups].value for groups in FUNCTIONAL_GROUPS)
    for groups in (per_frame[number], *shared):
        if groups.get(keyword):
            return groups[keyword][0]
    return None
