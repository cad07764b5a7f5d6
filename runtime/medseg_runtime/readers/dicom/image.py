"""DICOM images, by way of pydicom: CT, MR, CR and DX, US, endoscopy and photographs; a file, or one frame of it.

    bytes => data set, checked => stored values => modality values (CT: HU), larger is brighter; or RGB

Grey: the modality rescale or LUT is applied, padding becomes the lowest value of the rest, and MONOCHROME1 is inverted, which
pydicom does not do. The window is not applied, because a model scales intensities itself. It is kept as `value_range`, the range that
the rule `unit` maps to [0, 1]; without a window that is the range of the stored bits. Color: RGB, which pydicom converts YBR to.
Enhanced objects keep these values per frame (PS3.3, C.7.6.16).

`frame_header` finds values in the header, `decode` the stored values, `grey` the modality values, `geometry` the place in the patient.
"""

from __future__ import annotations

import io

import numpy as np
import pydicom

from medseg_runtime.errors import ImageError, ParameterError
from medseg_runtime.machine.memory import memory_to_decode
from medseg_runtime.model.preprocess import Pixels, as_image
from medseg_runtime.readers.dicom.decode import Stored, decoder_of, stored_values
from medseg_runtime.readers.dicom.frame_header import FrameHeader
from medseg_runtime.readers.dicom.geometry import SECONDARY_CAPTURES, frame_plane, spacing_of
from medseg_runtime.readers.dicom.grey import Range, grey_values
from medseg_runtime.readers.dicom.guard import reading
from medseg_runtime.readers.dicom.header import GREY, PALETTE, PIXELS, check_kind, modality
from medseg_runtime.readers.dicom.lookup import palette_table
from medseg_runtime.readers.dicom.parse import parse
from medseg_runtime.readers.source import DicomOrigin, SourceImage


def read_dicom(content: bytes, sha256: str, frame: int | None = None) -> SourceImage:
    """Decode the bytes of a DICOM file.

    frame: of a multi-frame object, counted from 1.

    Raises:
        ImageError: damaged, not an image, several frames and none chosen, or pixels that cannot be decoded.
        ParameterError: there is no such frame.
    """
    with reading(), memory_to_decode() as promise:
        dataset = parse(io.BytesIO(content))
        frames = check_kind(dataset)
        decoder_of(dataset)  # a video of many frames has none to choose
        promise(dataset.Columns, dataset.Rows)
        number = _frame_number(frame, frames)
        image = frame_image(dataset, number, sha256, stripped=dataset)
        for keyword in PIXELS:  # the encoded pixels are in memory only once
            dataset.pop(keyword, None)
        return image


def frame_image(dataset: pydicom.Dataset, number: int, sha256: str, *, stripped: pydicom.Dataset) -> SourceImage:
    """Decode one frame of a data set whose kind is checked.

    number: of the frame, counted from 1. stripped: what the image keeps as its header, without pixels.

    Raises:
        ImageError: the pixels are damaged, or cannot be decoded.
    """
    with reading():
        header = FrameHeader(dataset, number)
        pixels, value_range = _values(header, stored_values(header, number))
        warn_of_text(header)
        spacing = spacing_of(header)
        plane = frame_plane(header, spacing)
        return SourceImage(
            pixels=as_image(pixels),
            sha256=sha256,
            kind=f"DICOM {modality(dataset)}".strip(),
            spacing_mm=spacing,
            value_range=value_range,
            dicom=DicomOrigin(header=stripped, frame=number, frames=header.frames, plane=plane),
            warnings=tuple(header.warnings),
        )


def _frame_number(frame: int | None, frames: int) -> int:
    if frame is None and frames != 1:
        raise ImageError(
            f"this DICOM object holds several frames ({frames})",
            f"Choose one with --frame K, from 1 to {frames}, or take all with --frames all.",
        )
    if frame is not None and not 1 <= frame <= frames:
        raise ParameterError(f"there is no frame {frame}", f"Give --frame K from 1 to {frames}.")
    return frame or 1


def _values(header: FrameHeader, stored: Stored) -> tuple[Pixels, Range]:
    """Return the pixels, (H, W) or (H, W, 3), and the range that the rule `unit` maps to [0, 1]."""
    photometric = header.dataset.PhotometricInterpretation
    if photometric in GREY:
        if header.text("PixelPresentation") in {"COLOR", "MIXED"}:  # C.8.13.1.1.1.2 and C.8.16.2.1.1.2
            header.warn("some values stand for colors (PixelPresentation), which were read as grey values")
        return grey_values(header, stored)
    if photometric == PALETTE:
        table = palette_table(header.dataset, signed=stored.signed)
        return table(stored.values), (0.0, float(np.iinfo(table.entries.dtype).max))
    return stored.values, (0.0, float(2**stored.bits - 1))


def warn_of_text(header: FrameHeader) -> None:
    """Warn where a name may be burned into the pixels."""
    stated = header.text("BurnedInAnnotation")
    if stated == "YES":
        header.warn("text is burned into the pixels (BurnedInAnnotation is YES), and the overlay shows it too")
    elif stated != "NO" and (
        modality(header.dataset) in {"US", "IVUS", "ES"} or header.text("SOPClassUID") in SECONDARY_CAPTURES
    ):
        header.warn("a name may be burned into the pixels: the image does not state BurnedInAnnotation")
