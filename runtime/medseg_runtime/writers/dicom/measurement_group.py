"""The measurements of one class as a Measurement Group of a Structured Report: TID 1411 "Volumetric ROI Measurements" (PS3.16)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pydicom

from medseg_runtime._version import __version__
from medseg_runtime.readers.dicom.guard import import_highdicom
from medseg_runtime.result.distribution import Distribution
from medseg_runtime.result.measurements import Measurements
from medseg_runtime.result.segmentation import Segmentation
from medseg_runtime.writers.dicom.codes import ARTIFICIAL_INTELLIGENCE, Term, finding
from medseg_runtime.writers.dicom.identity import MAKER, parameters
from medseg_runtime.writers.dicom.measurement_codes import (
    CERTAINTY,
    COMMENT,
    NO_UNITS,
    NUMBER_OF_SAMPLES,
    PERCENT,
    QUANTITIES,
    STATISTICS,
    UNITS,
)

DECIMALS = 6
"""Of a value, as of the coordinates of a structure set."""


@dataclass(frozen=True, slots=True)
class Value:
    """One NUM item."""

    quantity: Term
    derivation: Term | None
    value: float
    unit: Term


@dataclass(frozen=True, kw_only=True, slots=True)
class ReferencedImages:
    """What the measurements were made of."""

    seg: pydicom.Dataset
    """The SEG of the consensus."""
    headers: Sequence[pydicom.Dataset]
    """Of the sources."""
    frames: Sequence[int | None]
    """Of each source, counted from 1; None for a single-frame image."""


def values_of(measurements: Measurements) -> list[Value]:
    """Return all values of one class: certainty, number of samples, and the statistics of each quantity.

    The statistics are those of the samples that are not empty. If there are none, there are no statistics.
    """
    samples = len(measurements.area)
    values = [
        Value(CERTAINTY, None, _rounded(100 * measurements.presence), PERCENT),
        Value(NUMBER_OF_SAMPLES, None, samples, NO_UNITS),
    ]
    for name, quantity in QUANTITIES.items():
        distribution: Distribution | None = getattr(measurements, name)
        if distribution is not None:
            values.extend(_statistics(quantity, distribution.present))
    return values


def _statistics(quantity: Term, found: Distribution) -> Iterator[Value]:
    for derivation, statistic in STATISTICS if len(found) else ():
        value = statistic(found)
        if math.isfinite(value):  # a single sample has no standard deviation
            yield Value(quantity, derivation, _rounded(value), UNITS[found.unit])


def _rounded(value: float) -> float:
    return round(value, DECIMALS)


def measurement_group(
    result: Segmentation,
    measurements: Measurements,
    images: ReferencedImages,
    segment: pydicom.Dataset,
    *,
    agreed: bool,
) -> Any:
    """Return the group of one class.

    segment: of the consensus, in the SEG. agreed: whether it is not empty.
    """
    sr = import_highdicom("a DICOM SR").sr
    code = finding(measurements.class_name, result.provenance.task)
    group = sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(uid=segment.TrackingUID, identifier=segment.TrackingID),
        referenced_segment=_referenced_segment(sr, images, segment.SegmentNumber),
        finding_type=sr.CodedConcept(*code.kind),
        finding_category=sr.CodedConcept(*code.category),
        finding_sites=[sr.FindingSite(anatomic_location=sr.CodedConcept(*code.region))] if code.region else None,
        algorithm_id=_algorithm(sr, result),
        measurements=[_measurement(sr, value) for value in values_of(measurements)],
    )
    group[0].ContentSequence.append(comment(_explanation(measurements, agreed=agreed)))
    return group


def comment(text: str) -> Any:
    """Return a TEXT item, which both TID 1500 and TID 1411 may be extended by."""
    sr = import_highdicom("a DICOM SR").sr
    return sr.TextContentItem(name=sr.CodedConcept(*COMMENT), value=text, relationship_type="CONTAINS")


def _explanation(measurements: Measurements, *, agreed: bool) -> str:
    samples = len(measurements.area)
    present = f"Statistics over {len(measurements.area.present)} of {samples} samples, those that are not empty"
    parts = [
        f"{present}; Certainty of Finding is their share.",
        *(["The consensus is empty."] if not agreed else []),
        *(["Area and axes are those of the slice where they are largest."] if measurements.slices > 1 else []),
        *(f"{warning[:1].upper()}{warning[1:]}." for warning in measurements.warnings),
    ]
    return " ".join(parts)


def _referenced_segment(sr: Any, images: ReferencedImages, segment: int) -> Any:
    return sr.ReferencedSegment(
        sop_class_uid=images.seg.SOPClassUID,
        sop_instance_uid=images.seg.SOPInstanceUID,
        segment_number=segment,
        source_images=[
            sr.SourceImageForSegmentation(
                referenced_sop_class_uid=header.SOPClassUID,
                referenced_sop_instance_uid=header.SOPInstanceUID,
                referenced_frame_numbers=None if frame is None else [frame],
            )
            for header, frame in zip(images.headers, images.frames, strict=True)
        ],
    )


def _algorithm(sr: Any, result: Segmentation) -> Any:
    """Return the Algorithm Identification, TID 4019."""
    return sr.AlgorithmIdentification(
        name=f"{MAKER} {result.provenance.bundle}"[:64],
        version=__version__,
        manufacturer=MAKER,
        family=sr.CodedConcept(*ARTIFICIAL_INTELLIGENCE),
        parameters=[f"{name} {value}" for name, value in parameters(result).items()],
    )


def _measurement(sr: Any, value: Value) -> Any:
    return sr.Measurement(
        name=sr.CodedConcept(*value.quantity),
        value=value.value,
        unit=sr.CodedConcept(*value.unit),
        derivation=None if value.derivation is None else sr.CodedConcept(*value.derivation),
    )
