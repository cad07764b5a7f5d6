"""The header of one slice of a study, or what a DICOM object is that holds no image."""

from __future__ import annotations

import io
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pydicom
from pydicom.dataelem import RawDataElement

from medseg_runtime.errors import ImageError
from medseg_runtime.readers.dicom.frame_header import FrameHeader
from medseg_runtime.readers.dicom.geometry import frame_plane, spacing_of
from medseg_runtime.readers.dicom.guard import DAMAGED, reading
from medseg_runtime.readers.dicom.header import PIXELS, check_kind, modality
from medseg_runtime.readers.dicom.parse import parse
from medseg_runtime.readers.dicom.study_files import StudyFile
from medseg_runtime.readers.image import DIRECTORY
from medseg_runtime.readers.patient_plane import PatientPlane

NO_IMAGES = frozenset({"SEG", "SR", "PR", "KO", "RTSTRUCT", "RTPLAN", "RTRECORD", "REG", "FID", "DOC", "PLAN", "AU", "ECG"})  # fmt: skip
"""Modalities of objects that hold no image of the patient (PS3.3, C.7.3.1.1.1)."""
NO_IMAGE = "DICOM without an image"
HEADER_BYTES = 1 << 16
"""What is read of a file at first. Its pixels mostly begin in it, and stay in the file."""
UNDEFINED_LENGTH = 0xFFFFFFFF


@dataclass(frozen=True, kw_only=True, slots=True)
class Header:
    """The checked values of an image's header that do not identify a patient."""

    file: StudyFile
    series: str
    """Series Instance UID."""
    uid: str
    """SOP Instance UID; empty if it is not stated."""
    series_number: int | None
    modality: str
    rows: int
    columns: int
    frames: int
    plane: PatientPlane | None
    reference_frame: str
    """Frame of Reference UID; empty if it is not stated."""
    fault: ImageError | None
    """Why it is no slice, if it is none."""


def read_header(file: StudyFile, opened: IO[bytes]) -> Header | str:
    """Read the header of a DICOM file; return its kind if it holds no image.

    Raises:
        ImageError: it is cut short. Other exceptions of pydicom are for the caller to translate.
    """
    dataset = _data_set(opened)
    kind = _kind_without_image(dataset)
    if kind is not None:
        return kind
    _check_complete(dataset, file.size)
    fault: ImageError | None = None
    frames, plane = 1, None
    try:
        frames = check_kind(dataset)
        if frames == 1:
            header = FrameHeader(dataset)
            plane = frame_plane(header, spacing_of(header))
            fault = _no_place(header) if plane is None else None
    except ImageError as error:
        fault = error
    return Header(
        file=file,
        series=str(dataset.get("SeriesInstanceUID", "")),
        uid=str(dataset.get("SOPInstanceUID", "")),
        series_number=_whole(dataset.get("SeriesNumber")),
        modality=modality(dataset),
        rows=int(dataset.get("Rows") or 0),
        columns=int(dataset.get("Columns") or 0),
        frames=frames,
        plane=plane,
        reference_frame=str(dataset.get("FrameOfReferenceUID") or ""),
        fault=fault,
    )


def _no_place(header: FrameHeader) -> ImageError:
    """Return the error for a slice without a plane in the patient, with the reasons."""
    reasons = "; ".join(header.warnings) or "it states none"
    return ImageError(f"no position in the patient: {reasons}", "Give the image files one by one.")


def _data_set(opened: IO[bytes]) -> pydicom.Dataset:
    """Read a header without its pixels where it is short, as of a slice; else the whole file."""
    opened.seek(0)
    head = opened.read(HEADER_BYTES)
    with suppress(Exception):  # of a part alone: what is wrong with the file shows when it is read whole
        dataset = parse(io.BytesIO(head))
        pixels = _raw_pixels(dataset)
        if pixels is not None and pixels.length != UNDEFINED_LENGTH:
            return dataset
    if isinstance(opened, io.BufferedReader):  # on disk, where pydicom leaves long values
        return parse(opened, defer_size=HEADER_BYTES)
    return parse(io.BytesIO(head + opened.read()))


def _check_complete(dataset: pydicom.Dataset, size: int) -> None:
    """Refuse an image whose file ends before its pixels do. pydicom reads what there is.

    size: of the file. Of a deflated one the size of its pixels says nothing; its stream has an end of its own.
    """
    if not any(keyword in dataset for keyword in PIXELS):
        raise ImageError("the DICOM file is cut short, or holds no pixels", DAMAGED)
    pixels = _raw_pixels(dataset)
    if pixels is None or pixels.length == UNDEFINED_LENGTH:  # read to their end
        return
    deflated = dataset.file_meta.get("TransferSyntaxUID") == pydicom.uid.DeflatedExplicitVRLittleEndian
    if not deflated and pixels.value_tell + pixels.length > size:
        raise ImageError("the DICOM file is cut short", DAMAGED)


def _raw_pixels(dataset: pydicom.Dataset) -> RawDataElement | None:
    for keyword in PIXELS:
        element = dataset.get_item(keyword, keep_deferred=True) if keyword in dataset else None
        if isinstance(element, RawDataElement):
            return element
    return None


def kind_without_image(path: Path) -> str | None:
    """Return what a DICOM file is, if it holds no image; None also for a damaged file, which is named when it is read."""
    try:
        with reading(), path.open("rb") as file:
            return _kind_without_image(parse(file, defer_size=HEADER_BYTES))
    except ImageError:
        return None


def _kind_without_image(dataset: pydicom.Dataset) -> str | None:
    """Return what an object is whose SOP class stores no image: a modality, DICOMDIR, or that it is DICOM.

    Objects of unknown and private classes hold an image if they have pixels. Without any class, the header is damaged, perhaps that of
    an image.
    """
    kind, code = _sop_class(dataset), modality(dataset)
    if kind == pydicom.uid.MediaStorageDirectoryStorage:
        return DIRECTORY
    known = not kind.is_private and kind.name != kind
    is_image = "Image Storage" in kind.name if known else not kind or any(keyword in dataset for keyword in PIXELS)
    return None if is_image and code not in NO_IMAGES else code or NO_IMAGE


def _sop_class(dataset: pydicom.Dataset) -> pydicom.uid.UID:
    return pydicom.uid.UID(str(dataset.file_meta.get("MediaStorageSOPClassUID") or dataset.get("SOPClassUID", "")))


def _whole(value: object) -> int | None:
    try:
        return int(str(value))
    except ValueError:
        return None
