"""Read DICOM objects back and compare them with what was put in."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pydicom

from medseg_runtime.errors import OutputError
from medseg_runtime.writers.dicom.reference import functional_group, position_of

Stored = npt.NDArray[np.uint8]


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


def _differs() -> OutputError:
    return OutputError("a DICOM object did not read back as it was written", "Report this with the source's kind.")
