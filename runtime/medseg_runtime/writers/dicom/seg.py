"""Write segmentations as DICOM objects, on the grid and in the frame of reference of their source.

    consensus.dcm         BINARY SEG: the consensus of each class
    representatives.dcm   BINARY SEG: of each class a few samples that stand for all, with their shares in the labels
    confidence.dcm        FRACTIONAL SEG: per class the share of samples, a probability; k of N is stored exactly for N up to 255
    overlay.dcm           Secondary Capture of the overlay, which any viewer shows
    measurements.dcm      Structured Report with the measurements, if asked for; see `sr`

Each has a series of its own. Viewers take one object of a series, and one that cannot show a kind is not kept from showing the others.
A SEG has a frame per segment and slice.

The same input gives the same bytes. UIDs are hashes of everything that decides the content, because an archive keeps the first
object that it has under a UID. Dates are those of the source. Every object is read back and compared before it is returned.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pydicom

from medseg_runtime._version import __version__
from medseg_runtime.errors import OutputError
from medseg_runtime.figures.viewport import Canvas
from medseg_runtime.readers.dicom.guard import import_highdicom
from medseg_runtime.readers.source import SourceImage
from medseg_runtime.result.measurements import Measurements
from medseg_runtime.result.representatives import Representatives
from medseg_runtime.result.segmentation import Segmentation, common_representatives
from medseg_runtime.writers.dicom.codes import ARTIFICIAL_INTELLIGENCE, Term
from medseg_runtime.writers.dicom.encoding import encoded
from medseg_runtime.writers.dicom.identity import (
    CONFIDENCE,
    CONSENSUS,
    MAKER,
    MODEL,
    REPRESENTATIVES,
    Series,
    entropy,
    parameters,
    tracking,
    uid,
)
from medseg_runtime.writers.dicom.read_back import check_seg
from medseg_runtime.writers.dicom.reference import position_of
from medseg_runtime.writers.dicom.secondary_capture import secondary_capture
from medseg_runtime.writers.dicom.segments import (
    Segment,
    confidence_segments,
    consensus_segments,
    representative_segments,
)
from medseg_runtime.writers.dicom.sources import prepare, writing
from medseg_runtime.writers.dicom.sr import measurement_report

MAX_SEGMENTS = 65535


@dataclass(frozen=True, kw_only=True, slots=True)
class DicomObjects:
    """The DICOM files of some results."""

    files: dict[str, bytes]
    """Content by name."""
    warnings: tuple[str, ...]
    """For each element of the sources that they leave out."""


def dicom_objects(
    results: Sequence[Segmentation],
    overlay: Canvas,
    *,
    index: int = 0,
    chosen: Representatives | None = None,
    measurements: Sequence[Measurements] | None = None,
    tracking_uid: str | None = None,
) -> DicomObjects:
    """Return the DICOM files.

    results: of one image, or of slices of one series in their order.
    overlay: (h, w, 3) RGB; index: of the slice that it shows.
    chosen: the samples to write as segments; by default a few that represent all.
    measurements: of all results together, for a report that refers to the consensus; None for no report.
    tracking_uid: of the finding that an SR points at, if one does; the consensus and the report are of the same finding.

    Raises:
        ParameterError: a source is not DICOM, or highdicom is not installed.
        OutputError: a SEG cannot refer to a source's header, or an object did not read back as it was written.
    """
    chosen = common_representatives(results) if chosen is None else chosen
    with writing():
        headers, left_out = prepare([result.source for result in results])
        writer = _Writer(results, headers, tracking_uid)
        files = {
            "consensus.dcm": writer.consensus(),
            "representatives.dcm": writer.representatives(chosen),
            "confidence.dcm": writer.confidence(),
            "overlay.dcm": secondary_capture(results[index], headers[index], overlay, writer.entropy),
        }
        if measurements is not None:
            with writing("a DICOM SR", "--sr"):
                files["measurements.dcm"] = measurement_report(results, measurements, headers, files["consensus.dcm"])
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


class _Writer:
    """Makes the SEG objects of one result, with what they have in common."""

    def __init__(
        self, results: Sequence[Segmentation], headers: Sequence[pydicom.Dataset], pointed: str | None
    ) -> None:
        self.highdicom = import_highdicom("a DICOM SEG")
        self.results = results
        self.headers = list(headers)
        images = [result.source for result in results]
        self.frames = [image.dicom.frame for image in images if image.dicom is not None]
        self.provenance = results[0].provenance
        self.samples = results[0].samples
        self.pointed = pointed or ""
        self.entropy = entropy(results, headers, (pydicom.__version__, self.highdicom.__version__))

    def consensus(self) -> bytes:
        """Return the SEG of the consensus."""
        segments = consensus_segments(self.results, tracking(self.entropy, self.results[0].classes, self.pointed))
        return self._binary(CONSENSUS, segments, f"at least half of {self.samples} samples", self.pointed)

    def representatives(self, chosen: Representatives) -> bytes:
        """Return the SEG of the chosen samples. Another choice is another series."""
        series = replace(REPRESENTATIVES, name=f"{REPRESENTATIVES.name}, {len(chosen)} of {self.samples}")
        description = f"{len(chosen)} of {self.samples} samples, which stand for all"
        choice = repr((chosen.samples.tolist(), chosen.shares.tolist()))
        return self._binary(series, representative_segments(self.results, chosen), description, choice)

    def confidence(self) -> bytes:
        """Return the SEG of the confidence."""
        highest = 255 // self.samples * self.samples or 255
        segments = list(confidence_segments(self.results))
        seg = self._seg(CONFIDENCE, segments, f"share of {self.samples} samples", segmentation_type="FRACTIONAL",
                        fractional_type="PROBABILITY", max_fractional_value=highest)  # fmt: skip
        content = encoded(seg, self.headers[0])
        stored = [np.rint(segment.values * np.float64(highest)).astype(np.uint8) for segment in segments]
        check_seg(content, stored, self.headers)
        return content

    def _binary(self, series: Series, segments: Iterable[Segment], description: str, choice: str = "") -> bytes:
        segments = list(segments)
        if len(segments) > MAX_SEGMENTS:
            raise OutputError(f"{len(segments)} segments do not fit into a SEG", "Ask for fewer --representatives.")
        seg = self._seg(series, segments, description, choice, segmentation_type="BINARY")
        content = encoded(seg, self.headers[0])
        check_seg(content, [segment.values.astype(np.uint8) for segment in segments], self.headers)
        return content

    def _seg(
        self, series: Series, segments: Sequence[Segment], description: str, choice: str = "", **kind: Any
    ) -> pydicom.Dataset:
        """Return a SEG. description: of its content. choice: what decides the content besides the results."""
        decides = [*self.entropy, choice]
        seg: pydicom.Dataset = self.highdicom.seg.Segmentation(
            source_images=self.headers,
            pixel_array=np.stack([segment.values for segment in segments], axis=-1),
            segment_descriptions=[self._description(number, s) for number, s in enumerate(segments, start=1)],
            series_instance_uid=uid(decides, f"series {series.name}"),
            series_number=series.number,
            sop_instance_uid=uid(decides, series.name),
            instance_number=1,
            manufacturer=MAKER,
            manufacturer_model_name=MODEL,
            software_versions=__version__,
            device_serial_number=self.provenance.bundle_sha256[:16] or "none",
            content_label=series.name.partition(",")[0].upper(),
            content_description=description,
            omit_empty_frames=False,
            **kind,
        )
        seg.SeriesDescription = series.description
        if seg.get("FrameOfReferenceUID") is None or position_of(self.headers[0]) is None:
            seg.PatientOrientation = self.headers[0].get("PatientOrientation")
            seg.SharedFunctionalGroupsSequence[0].pop("PixelMeasuresSequence", None)
        for item in (*seg.DimensionOrganizationSequence, *seg.DimensionIndexSequence):
            item.DimensionOrganizationUID = uid(decides, f"dimensions {series.name}")
        self._refer_to_frames(seg)
        return seg

    def _description(self, number: int, segment: Segment) -> Any:
        highdicom, code = self.highdicom, segment.finding
        description = highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=segment.label,
            segmented_property_category=self._coded(code.category),
            segmented_property_type=self._coded(code.kind),
            algorithm_type="SEMIAUTOMATIC" if self.provenance.needs_point else "AUTOMATIC",
            algorithm_identification=highdicom.AlgorithmIdentificationSequence(
                name=f"MedSegLatDiff {self.provenance.bundle}"[:64],
                family=self._coded(ARTIFICIAL_INTELLIGENCE),
                version=__version__,
                parameters=parameters(self.results[0]),
            ),
            anatomic_regions=[self._coded(code.region)] if code.region else None,
            display_color=highdicom.color.CIELabColor.from_rgb(*segment.color),
            tracking_uid=None if segment.tracking is None else segment.tracking.uid,
            tracking_id=None if segment.tracking is None else segment.tracking.identifier,
        )
        description.SegmentDescription = segment.description
        return description

    def _coded(self, term: Term) -> Any:
        return self.highdicom.sr.CodedConcept(*term)

    def _refer_to_frames(self, seg: pydicom.Dataset) -> None:
        """Put back the number of the source's frame; `reference` made it the only frame."""
        for groups in (*seg.SharedFunctionalGroupsSequence, *seg.PerFrameFunctionalGroupsSequence):
            for derivation in groups.get("DerivationImageSequence") or []:
                for source in derivation.SourceImageSequence:
                    if "ReferencedFrameNumber" in source:
                        source.ReferencedFrameNumber = self.frames[0]
