"""Read DICOM objects back and compare them with what was put in."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pydicom

from medseg_runtime.errors import OutputError
from medseg_runtime.readers.patient_plane import PatientPlane
from medseg_runtime.writers.dicom.codes import Term
from medseg_runtime.writers.dicom.measurement_group import Value
from medseg_runtime.writers.dicom.reference import functional_group, position_of

Bool = npt.NDArray[np.bool_]
Float64 = npt.NDArray[np.float64]
Stored = npt.NDArray[np.uint8]

OFF_PLANE_MM = 0.01
"""How far a corner may be from the plane of its slice: rounding alone, with direction cosines of six digits."""


def check_seg(content: bytes, expected: Sequence[Stored], headers: Sequence[pydicom.Dataset]) -> None:
    """Compare every segment of every slice of a SEG, and its position.

    expected: per segment (slices, H, W), as stored. headers: of the sources, one per slice.

    Raises:
        OutputError: the SEG does not hold them.
    """
    seg = pydicom.dcmread(io.BytesIO(content))
    frames = seg.pixel_array.reshape(-1, seg.Rows, seg.Columns)
    positions = [position_of(header) for header in headers]
    uids = [str(header.SOPInstanceUID) for header in headers]
    seen = set()
    for number, frame in enumerate(frames):
        segment = int(functional_group(seg, number, "SegmentIdentificationSequence").ReferencedSegmentNumber) - 1
        source = functional_group(seg, number, "DerivationImageSequence").SourceImageSequence[0]
        index = uids.index(str(source.ReferencedSOPInstanceUID))
        place = functional_group(seg, number, "PlanePositionSequence")
        if place is not None and not np.allclose(place.ImagePositionPatient, positions[index], atol=1e-3):
            raise _differs()
        if not np.array_equal(frame, expected[segment][index]):
            raise _differs()
        seen.add((segment, index))
    if len(seen) != len(expected) * len(uids) or len(frames) != len(seen):
        raise _differs()


def check_picture(content: bytes, pixels: Stored) -> None:
    """Compare the pixels of a Secondary Capture.

    Raises:
        OutputError: they differ.
    """
    if not np.array_equal(pydicom.dcmread(io.BytesIO(content)).pixel_array, pixels):
        raise _differs()


def check_structures(
    content: bytes, expected: Sequence[Bool], headers: Sequence[pydicom.Dataset], planes: Sequence[PatientPlane]
) -> None:
    """Fill the contours of every ROI of a structure set by pixel center, and compare them with its masks.

    expected: per ROI (slices, H, W). headers, planes: of the sources, one per slice.

    Raises:
        OutputError: they differ, or a contour does not lie in the plane of its slice.
    """
    structures = pydicom.dcmread(io.BytesIO(content))
    uids = [str(header.SOPInstanceUID) for header in headers]
    for roi, masks in zip(structures.ROIContourSequence, expected, strict=True):
        found = np.zeros_like(masks)
        for contour in roi.get("ContourSequence") or []:
            index = uids.index(str(contour.ContourImageSequence[0].ReferencedSOPInstanceUID))
            points = np.reshape(np.asarray(contour.ContourData, np.float64), (-1, 3))
            x, y, off = _in_plane(points, planes[index])
            if off.max() > OFF_PLANE_MM:
                raise _differs()
            found[index] |= _filled(x, y, masks.shape[1:])
        if not np.array_equal(found, masks):
            raise _differs()


def check_values(content: bytes, expected: Sequence[Sequence[Value]]) -> None:
    """Compare every value of a Structured Report, with its concepts and unit.

    expected: per Measurement Group.

    Raises:
        OutputError: they differ.
    """
    root = pydicom.dcmread(io.BytesIO(content))
    (measurements,) = (item for item in root.ContentSequence if _code(item, CONCEPT_NAME) == IMAGING_MEASUREMENTS)
    found = [
        [_value(item) for item in group.ContentSequence if item.ValueType == "NUM"]
        for group in measurements.ContentSequence
    ]
    if found != [list(values) for values in expected]:
        raise _differs()


CONCEPT_NAME, CONCEPT = "ConceptNameCodeSequence", "ConceptCodeSequence"
IMAGING_MEASUREMENTS: Term = ("126010", "DCM", "Imaging Measurements")


def _value(item: pydicom.Dataset) -> Value:
    (measured,) = item.MeasuredValueSequence
    derivations = [_code(child, CONCEPT) for child in item.get("ContentSequence") or []]
    return Value(
        quantity=_code(item, CONCEPT_NAME),
        derivation=derivations[0] if derivations else None,
        value=float(measured.NumericValue),
        unit=_code(measured, "MeasurementUnitsCodeSequence"),
    )


def _code(item: pydicom.Dataset, keyword: str) -> Term:
    (code,) = item[keyword].value
    return str(code.get("CodeValue")), str(code.CodingSchemeDesignator), str(code.CodeMeaning)


def _in_plane(points_mm: Float64, plane: PatientPlane) -> tuple[Float64, Float64, Float64]:
    """Patient coordinates (n, 3) => x and y in pixels from the image's upper left corner, and the distance from the plane in mm.

    By least squares, because the direction cosines of some sources are rounded and not quite at right angles.
    """
    axes = np.column_stack([plane.along_row, plane.along_column]) * plane.spacing_mm[::-1]
    offsets = (points_mm - plane.position).T
    pixels, *_ = np.linalg.lstsq(axes, offsets, rcond=None)
    return pixels[0] + 0.5, pixels[1] + 0.5, np.linalg.norm(axes @ pixels - offsets, axis=0)


def _filled(x: Float64, y: Float64, shape: tuple[int, ...]) -> Bool:
    """Return the pixels (H, W) whose center is inside a polygon: from it, a ray to the left crosses an odd number of edges.

    x, y: corners in pixels from the image's upper left corner.
    """
    rows, columns = np.arange(shape[0]) + 0.5, np.arange(shape[1]) + 0.5
    inside = np.zeros(shape, np.bool_)
    for x0, y0, x1, y1 in zip(x, y, np.roll(x, -1), np.roll(y, -1), strict=True):
        crossed = np.flatnonzero((rows > y0) != (rows > y1))
        at = x0 + (rows[crossed] - y0) * (x1 - x0) / (y1 - y0) if len(crossed) else rows[:0]
        inside[crossed] ^= columns > at[:, None]
    return inside


def _differs() -> OutputError:
    return OutputError("a DICOM object did not read back as it was written", "Report this with the source's kind.")
