"""Write masks as contours in a DICOM RT Structure Set (PS3.3, A.19), which planning systems for radiotherapy read.

    structures.dcm     per class an ROI of the consensus, and one of each representative sample, if there are any

A contour is CLOSED_PLANAR, one for each 4-connected region of a slice, along the edges of its pixels (see `result.polygons`). A reader that fills
contours by pixel center gets the masks back exactly. Holes are joined to the outline by a narrow channel (keyhole, PS3.3, C.8.8.6.3).

The samples are not written as a rule: a planning system lists every ROI, and sixteen of one finding are no help there. The SEG has all of them.

The object is in Implicit VR Little Endian, because the contour data of other encodings end at 64 KiB. pydicom alone writes it. UIDs and dates are
those of `identity`, and the object is read back and compared before it is returned.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ImplicitVRLittleEndian, RTStructureSetStorage
from pydicom.valuerep import format_number_as_ds

from medseg_runtime._version import __version__
from medseg_runtime.errors import ParameterError
from medseg_runtime.figures.overlay import with_class_axis
from medseg_runtime.figures.viewport import Bool, Color
from medseg_runtime.readers.dicom.frame_header import is_enhanced
from medseg_runtime.readers.patient_plane import PatientPlane
from medseg_runtime.readers.source import DicomOrigin, SourceImage
from medseg_runtime.result.polygons import polygons
from medseg_runtime.result.representatives import Representatives
from medseg_runtime.result.segmentation import Segmentation
from medseg_runtime.writers.dicom.codes import Term, finding
from medseg_runtime.writers.dicom.colors import consensus_color, sample_color
from medseg_runtime.writers.dicom.identity import (
    MAKER,
    MODEL,
    STRUCTURES,
    entropy,
    parameters,
    sha256_of,
    uid,
)
from medseg_runtime.writers.dicom.read_back import check_structures
from medseg_runtime.writers.dicom.reference import cannot_refer, date_and_time, reference
from medseg_runtime.writers.dicom.sources import writing

NEEDED = (
    "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID",
    "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing",
)  # fmt: skip
PATIENT_AND_STUDY = (
    "SpecificCharacterSet",
    "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "PatientIdentityRemoved",
    "DeidentificationMethod", "DeidentificationMethodCodeSequence",
    "StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName", "StudyDescription",
    "PatientAge", "PatientSize", "PatientWeight",
    "FrameOfReferenceUID", "PositionReferenceIndicator",
)  # fmt: skip
"""Copied from the source where it has them: modules Patient, Clinical Trial, General Study, Patient Study and Frame of Reference."""
STUDY = "1.2.840.10008.3.1.2.3.1"
"""SOP class of a study, "Detached Study Management". It is retired, and still what stands here in every structure set."""
LEAVE_OUT = "Leave --rtstruct out, or give single-frame slices with a position in the patient, such as CT or MR."


@dataclass(frozen=True, kw_only=True, slots=True)
class Roi:
    """One region of interest: its name, what it is, and its mask on every slice, (slices, H, W)."""

    name: str
    description: str
    code: Term
    color: Color
    masks: Bool


def check_sources(images: Sequence[SourceImage]) -> None:
    """Check, before anything is computed, that a structure set can refer to some images.

    Raises:
        ParameterError: a source is not DICOM, holds several frames, or lacks an element that contours need.
        OutputError: an element is not valid.
    """
    for origin in (image.dicom for image in images):
        if origin is None:
            raise ParameterError(
                "an RTSTRUCT refers to a DICOM image, and this one is not",
                "Leave --rtstruct out, or give the DICOM file.",
            )
        if origin.frames > 1 or is_enhanced(origin.header):
            raise ParameterError(
                "an RTSTRUCT refers to single-frame images, and this is a multi-frame object (NumberOfFrames)",
                LEAVE_OUT,
            )
        if missing := [keyword for keyword in NEEDED if not origin.header.get(keyword)]:
            raise ParameterError(f"an RTSTRUCT needs {', '.join(missing)}, which this source does not state", LEAVE_OUT)
        if origin.plane is None:
            raise ParameterError(
                "an RTSTRUCT needs valid values of ImagePositionPatient, ImageOrientationPatient and PixelSpacing",
                LEAVE_OUT,
            )
    if len({str(image.dicom.header.FrameOfReferenceUID) for image in images if image.dicom is not None}) > 1:
        raise ParameterError("the slices differ in FrameOfReferenceUID", LEAVE_OUT)
    with writing("an RTSTRUCT", "--rtstruct"):
        for image in images:
            _check_copied(reference(image))


def _check_copied(header: Dataset) -> None:
    """Refuse an element that would be copied and cannot be written, by name."""
    for keyword in PATIENT_AND_STUDY:
        copied = Dataset()
        try:
            if keyword in header:
                copied[keyword] = header[keyword]
                copied.save_as(io.BytesIO(), implicit_vr=True, little_endian=True)
        except Exception:  # noqa: BLE001 - pydicom raises many types for damaged values
            raise cannot_refer([keyword]) from None


def structure_set(results: Sequence[Segmentation], chosen: Representatives | None = None) -> bytes:
    """Return the content of a structure set.

    results: of one image, or of slices of one series in their order. chosen: the samples to write beside the consensus.

    Raises:
        ParameterError, OutputError: see `check_sources`.
        OutputError: it did not read back as it was written.
    """
    check_sources([result.source for result in results])
    with writing("an RTSTRUCT", "--rtstruct"):
        headers = [reference(result.source) for result in results]
        rois = list(_rois(results, chosen))
        planes = [_plane(_origin(result)) for result in results]
        content = _encoded(_dataset(results, headers, rois, planes))
        check_structures(content, [roi.masks for roi in rois], headers, planes)
        return content


def _rois(results: Sequence[Segmentation], chosen: Representatives | None) -> Iterator[Roi]:
    """Yield per class the consensus and the chosen samples, in the colors of the SEG."""
    result = results[0]
    of_slices = [with_class_axis(each) for each in results]
    for index, name in enumerate(result.classes):
        code = finding(name, result.provenance.task).kind
        yield Roi(
            name=f"{name} consensus"[:64],
            description=f"at least half of {result.samples} samples",
            code=code,
            color=consensus_color(index),
            masks=np.stack([consensus[index] for _, _, consensus in of_slices]),
        )
        pairs = [] if chosen is None else list(zip(chosen.samples, chosen.shares, strict=True))
        for place, (k, share) in enumerate(pairs):
            yield Roi(
                name=f"{name} sample {k:02d}"[:64],
                description=f"stands for {share:.0%} of {result.samples} samples",
                code=code,
                color=sample_color(index * len(pairs) + place),
                masks=np.stack([masks[k, index] for masks, _, _ in of_slices]),
            )


def _origin(result: Segmentation) -> DicomOrigin:
    assert result.source.dicom is not None  # check_sources
    return result.source.dicom


def _plane(origin: DicomOrigin) -> PatientPlane:
    assert origin.plane is not None  # check_sources
    return origin.plane


def _dataset(
    results: Sequence[Segmentation], headers: Sequence[Dataset], rois: Sequence[Roi], planes: Sequence[PatientPlane]
) -> Dataset:
    dataset = _equipment_and_label(results[0], headers[0])
    dataset.SOPInstanceUID, dataset.SeriesInstanceUID = _uids(results, headers, rois)
    dataset.ReferencedFrameOfReferenceSequence = [_frame_of_reference(headers)]
    numbered = list(enumerate(rois, start=1))
    dataset.StructureSetROISequence = [_roi(number, roi, results[0], headers[0]) for number, roi in numbered]
    dataset.ROIContourSequence = [_contours(number, roi, headers, planes) for number, roi in numbered]
    dataset.RTROIObservationsSequence = [_observation(number, roi) for number, roi in numbered]
    return dataset


def _uids(results: Sequence[Segmentation], headers: Sequence[Dataset], rois: Sequence[Roi]) -> tuple[str, str]:
    """Return the UIDs of the object and of its series."""
    of_rois = (each for roi in rois for each in (roi.name, roi.description, sha256_of(roi.masks)))
    decides = [*entropy(results, headers, (pydicom.__version__,)), *of_rois]
    return uid(decides, "RTSTRUCT"), uid(decides, "structure sets")


def _equipment_and_label(result: Segmentation, header: Dataset) -> Dataset:
    """Return the modules Patient, General Study, RT Series, Frame of Reference, General Equipment and Approval, and the label."""
    dataset = Dataset()
    for keyword in PATIENT_AND_STUDY:
        if keyword in header:
            dataset[keyword] = header[keyword]
    dataset.SOPClassUID, dataset.Modality, dataset.OperatorsName = RTStructureSetStorage, "RTSTRUCT", ""
    dataset.SeriesNumber, dataset.InstanceNumber = STRUCTURES.number, 1
    dataset.SeriesDescription = STRUCTURES.description
    dataset.Manufacturer, dataset.ManufacturerModelName, dataset.SoftwareVersions = MAKER, MODEL, __version__
    dataset.DeviceSerialNumber = result.provenance.bundle_sha256[:16] or "none"
    dataset.StructureSetLabel, dataset.StructureSetName = "MEDSEGLATDIFF", "Research only, not approved"
    dataset.StructureSetDescription = "; ".join(f"{name} {value}" for name, value in parameters(result).items())
    dataset.StructureSetDate, dataset.StructureSetTime = date_and_time(header)
    dataset.ApprovalStatus = "UNAPPROVED"
    return dataset


def _roi(number: int, roi: Roi, result: Segmentation, header: Dataset) -> Dataset:
    return _item(
        ROINumber=number,
        ReferencedFrameOfReferenceUID=header.FrameOfReferenceUID,
        ROIName=roi.name,
        ROIDescription=roi.description,
        ROIGenerationAlgorithm="SEMIAUTOMATIC" if result.provenance.needs_point else "AUTOMATIC",
        ROIGenerationDescription=f"MedSegLatDiff {result.provenance.bundle}"[:64],
    )


def _observation(number: int, roi: Roi) -> Dataset:
    return _item(
        ObservationNumber=number,
        ReferencedROINumber=number,
        RTROIIdentificationCodeSequence=[_coded(roi.code)],
        RTROIInterpretedType="",
        ROIInterpreter="",
    )


def _frame_of_reference(headers: Sequence[Dataset]) -> Dataset:
    """Return the frame of reference, with the study, the series and all images that contours refer to."""
    header = headers[0]
    series = _item(
        SeriesInstanceUID=header.SeriesInstanceUID, ContourImageSequence=[_image(header) for header in headers]
    )
    study = _item(
        ReferencedSOPClassUID=STUDY,
        ReferencedSOPInstanceUID=header.StudyInstanceUID,
        RTReferencedSeriesSequence=[series],
    )
    return _item(FrameOfReferenceUID=header.FrameOfReferenceUID, RTReferencedStudySequence=[study])


def _contours(number: int, roi: Roi, headers: Sequence[Dataset], planes: Sequence[PatientPlane]) -> Dataset:
    """Return the contours of one ROI on all slices. An ROI without a pixel has no contours."""
    contours = [
        _contour(_corners_mm(polygon, plane), header)
        for mask, header, plane in zip(roi.masks, headers, planes, strict=True)
        for polygon in polygons(mask)
    ]
    item = _item(ROIDisplayColor=list(roi.color), ReferencedROINumber=number)
    if contours:
        item.ContourSequence = contours
    return item


def _corners_mm(polygon: np.ndarray, plane: PatientPlane) -> np.ndarray:
    """Bring corners (n, 2) in pixels from the image's corner to patient coordinates, (n, 3)."""
    matrix = plane.affine(plane.normal)  # of pixel centers, the first of which is at 0, 0
    return np.asarray((polygon - 0.5) @ matrix[:3, :2].T + matrix[:3, 3])


def _contour(corners: np.ndarray, header: Dataset) -> Dataset:
    return _item(
        ContourImageSequence=[_image(header)],
        ContourGeometricType="CLOSED_PLANAR",
        NumberOfContourPoints=len(corners),
        ContourData=[format_number_as_ds(round(value, 6)) for value in corners.ravel().tolist()],
    )


def _image(header: Dataset) -> Dataset:
    return _item(ReferencedSOPClassUID=header.SOPClassUID, ReferencedSOPInstanceUID=header.SOPInstanceUID)


def _coded(term: Term) -> Dataset:
    value, scheme, meaning = term
    return _item(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)


def _item(**values: object) -> Dataset:
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item


def _encoded(dataset: Dataset) -> bytes:
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()
