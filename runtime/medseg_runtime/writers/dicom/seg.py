"""Write segmentations as DICOM objects, on the grid and in the frame of reference of their source.

    segmentation.dcm   BINARY SEG: per class the consensus, then one segment per sample; a frame per segment and slice
    confidence.dcm     FRACTIONAL SEG: per class the share of samples, a probability; k of N is stored exactly for N up to 255
    overlay.dcm        Secondary Capture of the overlay, which any viewer shows

The same input gives the same bytes. UIDs are hashes of everything that decides the content, because an archive keeps the first
object that it has under a UID. Dates are those of the source. Every object is read back and compared before it is returned.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.uid import ExplicitVRLittleEndian

from medseg_runtime._version import __version__
from medseg_runtime.errors import OutputError
from medseg_runtime.figures.viewport import Canvas
from medseg_runtime.readers.dicom.guard import import_highdicom
from medseg_runtime.readers.source import SourceImage
from medseg_runtime.result.segmentation import Segmentation
from medseg_runtime.writers.dicom.codes import Finding, Term, finding
from medseg_runtime.writers.dicom.identity import (
    MAKER,
    MODEL,
    SERIES_NUMBER,
    entropy,
    parameters,
    uid,
)
from medseg_runtime.writers.dicom.read_back import check_picture, check_seg
from medseg_runtime.writers.dicom.reference import date_and_time, position_of
from medseg_runtime.writers.dicom.sources import prepare, writing

MAX_SEGMENTS = 65535
WHEN_WE_RAN = (
    "DateOfSecondaryCapture", "InstanceCreationDate", "InstanceCreationTime", "SeriesDate", "SeriesTime",
    "TimeOfSecondaryCapture",
)  # fmt: skip
LOSSY = ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod")


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """One segment: its label, its codes and its values (slices, H, W)."""

    label: str
    finding: Finding
    values: npt.NDArray[np.bool_] | npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class DicomObjects:
    """The DICOM files of some results."""

    files: dict[str, bytes]
    """Content by name."""
    warnings: tuple[str, ...]
    """For each element of the sources that they leave out."""


def dicom_objects(results: Sequence[Segmentation], overlay: Canvas, *, index: int = 0) -> DicomObjects:
    """Return the three DICOM files.

    results: of one image, or of slices of one series in their order.
    overlay: (h, w, 3) RGB; index: of the slice that it shows.

    Raises:
        ParameterError: a source is not DICOM, or highdicom is not installed.
        OutputError: a SEG cannot refer to a source's header, or an object did not read back as it was written.
    """
    with writing():
        headers, left_out = prepare([result.source for result in results])
        writer = _Writer(results, headers)
        files = {
            "segmentation.dcm": writer.segmentation("BINARY", _mask_segments(results)),
            "confidence.dcm": writer.segmentation("FRACTIONAL", _confidence_segments(results)),
            "overlay.dcm": writer.secondary_capture(index, overlay),
        }
        return DicomObjects(files=files, warnings=_left_out_notes(left_out))


def check_sources(images: Sequence[SourceImage]) -> tuple[SourceImage, ...]:
    """Check, before anything is computed, that DICOM objects can be written; see `prepare`.

    Return the images, with a warning for each element that the objects will leave out.
    """
    _, left_out = prepare(images)
    notes = _left_out_notes(left_out)
    return tuple(replace(image, warnings=(*image.warnings, *notes)) if notes else image for image in images)


def _left_out_notes(keywords: Sequence[str]) -> tuple[str, ...]:
    return tuple(f"{keyword} is not valid and was left out of the DICOM objects" for keyword in keywords)


def _mask_segments(results: Sequence[Segmentation]) -> list[Segment]:
    segments, task = [], results[0].provenance.task
    for index, name in enumerate(results[0].classes):
        of_class = [(_layer(r.consensus, index, 2), _layer(r.masks, index, 3)) for r in results]
        code = finding(name, task)
        segments.append(
            Segment(label=f"{name} consensus", finding=code, values=np.stack([consensus for consensus, _ in of_class]))
        )
        for k in range(len(of_class[0][1])):
            values = np.stack([masks[k] for _, masks in of_class])
            segments.append(Segment(label=f"{name} sample {k}", finding=code, values=values))
    return segments


def _confidence_segments(results: Sequence[Segmentation]) -> list[Segment]:
    return [
        Segment(
            label=f"{name} confidence",
            finding=finding(name, results[0].provenance.task),
            values=np.stack([_layer(result.confidence, index, 2) for result in results]),
        )
        for index, name in enumerate(results[0].classes)
    ]


def _layer(maps: npt.NDArray[Any], index: int, ndim: int) -> npt.NDArray[Any]:
    """Return the maps of one class. With a single class there is no class axis."""
    return maps if maps.ndim == ndim else maps[..., index, :, :]


class _Writer:
    """Makes the objects of one result, with what they have in common."""

    def __init__(self, results: Sequence[Segmentation], headers: Sequence[pydicom.Dataset]) -> None:
        self.highdicom = import_highdicom("a DICOM SEG")
        self.headers = list(headers)
        images = [result.source for result in results]
        self.frames = [image.dicom.frame for image in images if image.dicom is not None]
        self.result = results[0]
        self.provenance = results[0].provenance
        self.samples = len(self.result.masks)
        self.entropy = entropy(results, headers, (pydicom.__version__, self.highdicom.__version__))

    def segmentation(self, kind: str, segments: list[Segment]) -> bytes:
        """Return a SEG object."""
        if len(segments) > MAX_SEGMENTS:
            raise OutputError(f"{len(segments)} segments do not fit into a SEG", "Draw fewer --samples.")
        highest = 255 // self.samples * self.samples or 255
        seg = self.highdicom.seg.Segmentation(
            source_images=self.headers,
            pixel_array=np.stack([segment.values for segment in segments], axis=-1),
            segmentation_type=kind,
            segment_descriptions=[self._description(number, s) for number, s in enumerate(segments, start=1)],
            series_instance_uid=self._uid("segmentations"),
            series_number=SERIES_NUMBER,
            sop_instance_uid=self._uid(kind),
            instance_number=1 if kind == "BINARY" else 2,
            manufacturer=MAKER,
            manufacturer_model_name=MODEL,
            software_versions=__version__,
            device_serial_number=self.provenance.bundle_sha256[:16] or "none",
            fractional_type="PROBABILITY",
            max_fractional_value=highest,
            content_label="MASKS" if kind == "BINARY" else "CONFIDENCE",
            content_description=f"{self.samples} plausible masks" if kind == "BINARY" else "share of samples",
            omit_empty_frames=False,
        )
        seg.SeriesDescription = "MedSegLatDiff segmentations (research only)"
        if seg.get("FrameOfReferenceUID") is None or position_of(self.headers[0]) is None:
            seg.PatientOrientation = self.headers[0].get("PatientOrientation")
            seg.SharedFunctionalGroupsSequence[0].pop("PixelMeasuresSequence", None)
        self._refer_to_frames(seg)
        content = self._encoded(seg, kind)
        expected = [
            s.values.astype(np.uint8) if kind == "BINARY" else np.rint(s.values * np.float64(highest)).astype(np.uint8)
            for s in segments
        ]
        check_seg(content, expected, self.headers)
        return content

    def secondary_capture(self, index: int, overlay: Canvas) -> bytes:
        """Return the overlay of one slice as a picture that belongs to the source's study."""
        header = self.headers[index]
        capture = self.highdicom.sc.SCImage.from_ref_dataset(
            ref_dataset=header,
            pixel_array=overlay,
            photometric_interpretation="RGB",
            bits_allocated=8,
            coordinate_system="PATIENT",
            series_instance_uid=self._uid("overlays"),
            series_number=SERIES_NUMBER + 1,
            sop_instance_uid=self._uid("SC"),
            instance_number=1,
            manufacturer=MAKER,
            patient_orientation=("L", "P"),
            laterality="L",
        )
        # The overlay is an enlarged part without orientation marks.
        capture.PatientOrientation = None
        capture.Laterality = ""
        capture.ImageType = ["DERIVED", "SECONDARY"]
        # The overlay holds the source's pixels, and no more text than they have.
        capture.pop("BurnedInAnnotation", None)
        if header.get("BurnedInAnnotation") in {"YES", "NO"}:
            capture.BurnedInAnnotation = header.BurnedInAnnotation
        capture.SeriesDescription = "MedSegLatDiff overlay (research only)"
        for keyword in LOSSY:  # once lossy, always lossy (PS3.3, C.7.6.1.1.5)
            if keyword in header:
                capture[keyword] = header[keyword]
        capture.DerivationDescription = "; ".join(f"{name} {value}" for name, value in parameters(self.result).items())
        content = self._encoded(capture, "SC")
        check_picture(content, overlay)
        return content

    def _description(self, number: int, segment: Segment) -> Any:
        highdicom, code = self.highdicom, segment.finding
        return highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=segment.label[:64],
            segmented_property_category=self._coded(code.category),
            segmented_property_type=self._coded(code.kind),
            algorithm_type="SEMIAUTOMATIC" if self.provenance.needs_point else "AUTOMATIC",
            algorithm_identification=highdicom.AlgorithmIdentificationSequence(
                name=f"MedSegLatDiff {self.provenance.bundle}"[:64],
                family=self._coded(("123109", "DCM", "Artificial Intelligence")),
                version=__version__,
                parameters=parameters(self.result),
            ),
            anatomic_regions=[self._coded(code.region)] if code.region else None,
        )

    def _coded(self, term: Term) -> Any:
        return self.highdicom.sr.CodedConcept(*term)

    def _uid(self, kind: str) -> str:
        return uid(self.entropy, kind)

    def _refer_to_frames(self, seg: pydicom.Dataset) -> None:
        """Put back the number of the source's frame; `reference` made it the only frame."""
        for groups in (*seg.SharedFunctionalGroupsSequence, *seg.PerFrameFunctionalGroupsSequence):
            for derivation in groups.get("DerivationImageSequence") or []:
                for source in derivation.SourceImageSequence:
                    if "ReferencedFrameNumber" in source:
                        source.ReferencedFrameNumber = self.frames[0]

    def _encoded(self, dataset: pydicom.Dataset, kind: str) -> bytes:
        """Remove everything that depends on when and how often this runs, and encode the file."""
        dataset.ContentDate, dataset.ContentTime = date_and_time(self.headers[0])
        for keyword in WHEN_WE_RAN:
            if keyword in dataset:
                delattr(dataset, keyword)
        for equipment in dataset.get("ContributingEquipmentSequence") or []:
            if "ContributionDateTime" in equipment:
                del equipment.ContributionDateTime
        if "DimensionOrganizationSequence" in dataset:
            organization = self._uid(f"dimensions {kind}")
            for item in (*dataset.DimensionOrganizationSequence, *dataset.DimensionIndexSequence):
                item.DimensionOrganizationUID = organization
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        buffer = io.BytesIO()
        dataset.save_as(buffer, enforce_file_format=True)
        return buffer.getvalue()
