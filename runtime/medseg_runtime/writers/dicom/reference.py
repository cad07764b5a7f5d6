"""Prepare a source's header so that another DICOM object can refer to it, and read a frame's position."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pydicom
from pydicom.valuerep import DA, TM

from medseg_runtime.errors import OutputError
from medseg_runtime.readers.dicom.frame_header import FUNCTIONAL_GROUPS, is_enhanced
from medseg_runtime.readers.source import DicomOrigin, SourceImage

# Attributes that a SEG must have, empty if unknown, and that some sources omit.
NEVER_ABSENT = (
    "AccessionNumber", "PatientBirthDate", "PatientID", "PatientName", "PatientSex", "ReferringPhysicianName",
    "StudyDate", "StudyID", "StudyTime",
)  # fmt: skip
IDENTIFIERS = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
GEOMETRY = ("PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient")
MACROS = ("PixelMeasuresSequence", "PlanePositionSequence", "PlaneOrientationSequence")
DATES = (("ContentDate", "ContentTime"), ("SeriesDate", "SeriesTime"), ("StudyDate", "StudyTime"))
UTF_8 = "ISO_IR 192"


def reference(image: SourceImage) -> pydicom.Dataset:
    """Return a copy of a source's header that highdicom can refer to: one frame, and every required attribute.

    Raises:
        OutputError: it has no UID or SOP class to refer to.
    """
    assert image.dicom is not None
    header = copy.deepcopy(image.dicom.header)
    _check_identifiers(header)
    character_set = header.get("SpecificCharacterSet") or ""
    if not isinstance(character_set, str) or character_set.startswith("ISO 2022"):
        # Code extensions, as in most Japanese, Korean and Chinese studies (PS3.3, C.12.1.1.2). highdicom does not take all of
        # them, so names are re-encoded as UTF-8.
        try:
            header.decode()
        except Exception:  # noqa: BLE001 - pydicom raises many types for names that are not of their character set
            raise cannot_refer(["SpecificCharacterSet"]) from None
        header.SpecificCharacterSet = UTF_8
    for keyword in NEVER_ABSENT:
        if keyword not in header:
            setattr(header, keyword, "")
    if image.dicom.frames > 1 or is_enhanced(header):
        _keep_one_frame(header, image.dicom.frame)
    else:
        for keyword in FUNCTIONAL_GROUPS:  # empty, which says nothing
            header.pop(keyword, None)
    if not has_position(image.dicom):
        _remove_geometry(header)
    if not header.get("FrameOfReferenceUID"):
        header.pop("FrameOfReferenceUID", None)
    return header


def _keep_one_frame(header: pydicom.Dataset, number: int) -> None:
    """Keep the functional groups of one frame, each macro where highdicom reads it: the position per frame, the others shared."""
    header.NumberOfFrames = 1
    shared, own = (
        header[keyword][index] if header.get(keyword) else pydicom.Dataset()
        for keyword, index in zip(FUNCTIONAL_GROUPS, (0, number - 1), strict=True)
    )
    for keyword in MACROS:
        stated = next((groups[keyword] for groups in (own, shared) if groups.get(keyword)), None)
        if stated is not None:
            (own if keyword == "PlanePositionSequence" else shared)[keyword] = stated
    header.SharedFunctionalGroupsSequence, header.PerFrameFunctionalGroupsSequence = [shared], [own]


def _check_identifiers(header: pydicom.Dataset) -> None:
    for keyword in IDENTIFIERS:
        if not header.get(keyword):
            raise cannot_refer([keyword])
    kind = pydicom.uid.UID(str(header.SOPClassUID))
    if kind.is_private or kind.name == kind:  # highdicom asks the standard which attributes its objects share
        raise OutputError(
            "a DICOM object cannot refer to this source: its SOPClassUID is none of the standard",
            "Leave --dicom-seg, --rtstruct and --sr out.",
        )


def cannot_refer(keywords: Sequence[str]) -> OutputError:
    """Return the error for elements that a DICOM object needs, and that are absent or not valid."""
    return OutputError(
        f"a DICOM object cannot refer to this source: {', '.join(keywords)} is absent or not valid",
        "Export it again from its archive, or leave --dicom-seg, --rtstruct and --sr out.",
    )


def date_and_time(header: pydicom.Dataset) -> tuple[str, str]:
    """Return the first valid date and time of content, series or study; the beginning of 1970 without one."""
    for of_date, of_time in DATES:
        with suppress(Exception):  # a value of another type than its VR says
            if (date := DA(header.get(of_date))) and (time := TM(header.get(of_time))):
                return str(date), str(time)
    return "19700101", "000000"


def _remove_geometry(header: pydicom.Dataset) -> None:
    """Without a position in the patient a SEG must state neither distances nor a plane. A tile of a slide has none."""
    for keyword in (*GEOMETRY, "ImageOrientationSlide"):
        header.pop(keyword, None)
    if all(header.get(keyword) for keyword in FUNCTIONAL_GROUPS):
        for keyword in FUNCTIONAL_GROUPS:
            for macro in MACROS:
                header[keyword][0].pop(macro, None)
        # highdicom requires it; seg.py removes it again
        header.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence = [pydicom.Dataset()]


def has_position(origin: DicomOrigin) -> bool:
    """Tell whether an image has a position in the patient, in a frame of reference that other objects can share."""
    return origin.plane is not None and bool(origin.header.get("FrameOfReferenceUID"))


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
