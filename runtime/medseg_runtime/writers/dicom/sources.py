"""Whether DICOM objects can refer to their sources: tried with blank objects, before anything is drawn.

A header is copied by highdicom, which does not take every value that scanners and de-identification leave behind. What it does not take
is left out of the objects, with a warning that names the element. What cannot be left out is refused, by name.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pydicom

from medseg_runtime.errors import MedsegError, OutputError, ParameterError
from medseg_runtime.readers.dicom.frame_header import FUNCTIONAL_GROUPS, FrameHeader
from medseg_runtime.readers.dicom.geometry import missing_of_plane
from medseg_runtime.readers.dicom.guard import EXTRA, import_highdicom, silenced
from medseg_runtime.readers.source import SourceImage
from medseg_runtime.writers.dicom.codes import LESION
from medseg_runtime.writers.dicom.reference import (
    GEOMETRY,
    IDENTIFIERS,
    NEVER_ABSENT,
    cannot_refer,
    has_position,
    reference,
)

REFERENCE_FRAME = "FrameOfReferenceUID"
CHARACTER_SET = "SpecificCharacterSet"
KEPT = frozenset(
    (*IDENTIFIERS, *GEOMETRY, *FUNCTIONAL_GROUPS, REFERENCE_FRAME, "Modality", "NumberOfFrames", "SliceThickness")
)
"""Elements that the objects need as they are, besides those of the pixels (group 0028)."""
SIDE = 2
"""Rows and columns of the blank objects."""


@contextmanager
def writing(what: str = "a DICOM SEG", option: str = "--dicom-seg") -> Iterator[None]:
    """Translate exceptions of pydicom and highdicom to OutputError, without their text: it may quote the data set.

    what: the object, with its article. option: of the command, that asks for it.
    """
    try:
        with silenced():
            yield
    except (MedsegError, MemoryError, OSError):  # not the header's fault
        raise
    except Exception as error:  # noqa: BLE001 - a header can make these libraries raise anything
        raise _unknown_reason(type(error).__name__, what, option) from None


def _check_origin(image: SourceImage) -> None:
    origin = image.dicom
    if origin is None:
        raise ParameterError(
            "a DICOM SEG refers to a DICOM image, and this one is not",
            "Leave --dicom-seg and --sr out, or give the DICOM file.",
        )
    if origin.plane is None:
        missing = missing_of_plane(FrameHeader(origin.header, origin.frame))
        if missing:
            raise cannot_refer(missing)
    elif has_position(origin) and origin.plane.thickness_mm is None:
        raise ParameterError(
            "a DICOM SEG needs the slice thickness (SliceThickness), which this source does not state",
            "Leave --dicom-seg and --sr out.",
        )


def prepare(images: Sequence[SourceImage]) -> tuple[list[pydicom.Dataset], list[str]]:
    """Return a header of each image that DICOM objects can refer to, and the elements that were left out of them.

    Raises:
        ParameterError: a source is not DICOM, or has a position but no slice thickness; or highdicom is not installed.
        OutputError: an element that a SEG needs is absent or not valid.
    """
    with writing():
        for image in images:
            _check_origin(image)
        try:
            import_highdicom("a DICOM SEG")
        except MedsegError as error:
            raise ParameterError(error.problem, EXTRA) from error
    with writing():  # again, for the loggers of what was imported
        headers = [reference(image) for image in images]
        if _accepted(headers):
            return headers, []
        left_out = [keyword for header in headers for keyword in _leave_out(header)]
        if not left_out or not _accepted(headers):
            raise _unknown_reason()
    return headers, list(dict.fromkeys(left_out))


def _unknown_reason(kind: str = "", what: str = "a DICOM SEG", option: str = "--dicom-seg") -> OutputError:
    return OutputError(
        f"{what} cannot refer to this source's header{kind and f' ({kind})'}",
        f"Check the source with `dciodvfy`, or leave {option} out.",
    )


def _leave_out(header: pydicom.Dataset) -> list[str]:
    """Remove the elements that are not accepted from a header, and return their keywords.

    Raises:
        OutputError: one cannot be left out.
    """
    optional = {tag: header.get_item(tag) for tag in header.keys() if _keyword(tag) not in KEPT and tag.group != 0x0028}  # noqa: SIM118 - iteration would decode values
    for tag in optional:
        _remove(header, tag)
    if not _accepted([header]):
        raise _unknown_reason() if header.get(REFERENCE_FRAME) else cannot_refer([REFERENCE_FRAME])
    left_out = _put_back(header, [(tag, element) for tag, element in optional.items() if not tag.is_private])
    if CHARACTER_SET in left_out and not _is_ascii(header):
        raise cannot_refer([CHARACTER_SET])
    return left_out


def _put_back(header: pydicom.Dataset, elements: list[tuple[pydicom.tag.BaseTag, Any]]) -> list[str]:
    """Put the elements back that are accepted, by halves, and return the keywords of the others."""
    for tag, element in elements:
        header[tag] = element
    if _accepted([header]):
        return []
    for tag, _ in elements:
        _remove(header, tag)
    if len(elements) == 1:
        return [_keyword(elements[0][0])]
    half = len(elements) // 2
    return _put_back(header, elements[:half]) + _put_back(header, elements[half:])


def _keyword(tag: pydicom.tag.BaseTag) -> str:
    return pydicom.datadict.keyword_for_tag(tag)


def _remove(header: pydicom.Dataset, tag: pydicom.tag.BaseTag) -> None:
    del header[tag]
    if _keyword(tag) in NEVER_ABSENT:
        setattr(header, _keyword(tag), "")


def _is_ascii(header: pydicom.Dataset) -> bool:
    texts = (header.get_item(keyword) for keyword in ("PatientName", "PatientID", "ReferringPhysicianName", "StudyID"))
    return all(str(element.value).isascii() for element in texts if element is not None)


def _accepted(headers: Sequence[pydicom.Dataset]) -> bool:
    """Tell whether highdicom makes and writes objects that refer to these headers."""
    sizes = [(header.Rows, header.Columns) for header in headers]
    try:
        for header in headers:
            header.Rows = header.Columns = SIDE
        for blank in _blank_objects(headers):
            blank.save_as(io.BytesIO(), enforce_file_format=True)
    except Exception:  # noqa: BLE001 - a header can make these libraries raise anything
        return False
    finally:
        for header, (rows, columns) in zip(headers, sizes, strict=True):
            header.Rows, header.Columns = rows, columns
    return True


def _blank_objects(headers: Sequence[pydicom.Dataset]) -> Iterator[pydicom.Dataset]:
    """Yield a SEG and a Secondary Capture without content."""
    highdicom = import_highdicom("a DICOM SEG")
    lesion = highdicom.sr.CodedConcept(*LESION)
    names = {"series_instance_uid": "1.2", "series_number": 1, "sop_instance_uid": "1.3", "instance_number": 1}
    yield highdicom.seg.Segmentation(
        source_images=headers,
        pixel_array=np.zeros((len(headers), SIDE, SIDE, 1), np.bool_),
        segmentation_type="BINARY",
        segment_descriptions=[
            highdicom.seg.SegmentDescription(
                segment_number=1,
                segment_label="blank",
                segmented_property_category=lesion,
                segmented_property_type=lesion,
                algorithm_type="MANUAL",
            )
        ],
        manufacturer="-",
        manufacturer_model_name="-",
        software_versions="-",
        device_serial_number="-",
        content_label="BLANK",
        omit_empty_frames=False,
        **names,
    )
    yield highdicom.sc.SCImage.from_ref_dataset(
        ref_dataset=headers[0],
        pixel_array=np.zeros((SIDE, SIDE, 3), np.uint8),
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        manufacturer="-",
        patient_orientation=("L", "P"),
        laterality="L",
        **names,
    )
