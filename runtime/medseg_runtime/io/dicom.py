"""Single-frame DICOM images, by way of pydicom.

    bytes => data set, checked => stored values => larger is brighter => modality values (CT: HU) or RGB

Grey: padding becomes the lowest value of the rest, MONOCHROME1 is inverted (pydicom does not), the modality rescale or LUT is
applied, the window is not: the model scales intensities itself. Colour: RGB, to which pydicom has converted YBR.
Everything else is refused. pydicom's warnings and errors may quote a patient's data, so none of their text goes further.
"""

from __future__ import annotations

import io
import logging
import math
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pydicom
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut

from medseg_runtime.errors import ImageError
from medseg_runtime.imaging import Pixels, as_image
from medseg_runtime.io.source import SourceImage, check_size

GREY = ("MONOCHROME1", "MONOCHROME2")
MAX_RESCALE = 1e9
"""Largest plausible slope or intercept, in magnitude."""
DAMAGED = "Export the image again from the archive it comes from."
DECODERS = "Run `pip install 'medseglatdiff[dicom]'` for more decoders, or decompress it with dcmtk's `dcmdjpeg`."
ONE_FRAME = "Save the frame that you mean as a single-frame object, or as PNG."


def read_dicom(content: bytes, sha256: str) -> SourceImage:
    """Decode the bytes of a DICOM file.

    Raises:
        ImageError: damaged, not an image, several frames, or a kind of pixels that we do not read.
    """
    with _pydicom_contained():
        dataset = pydicom.dcmread(io.BytesIO(content))
        _check_kind(dataset)
        notes: list[str] = []
        stored = _stored_values(dataset)
        photometric = dataset.PhotometricInterpretation
        if photometric in GREY:
            pixels = _modality_values(_bright(_without_padding(stored, dataset, notes), dataset), dataset)
        elif photometric == "PALETTE COLOR":
            pixels = apply_color_lut(stored, dataset)
        else:
            pixels = stored
        if pixels.shape[:2] != (dataset.Rows, dataset.Columns):
            raise ImageError("the DICOM pixels do not have the stated rows and columns", DAMAGED)
        if dataset.get("BurnedInAnnotation") == "YES":
            notes.append("text is burned into the pixels (Burned In Annotation is YES), and the overlay shows it too")
        spacing = _spacing_mm(dataset, notes)
        kind = f"DICOM {_modality(dataset)}".strip()
    return SourceImage(pixels=as_image(pixels), sha256=sha256, kind=kind, spacing_mm=spacing, warnings=tuple(notes))


class _MuteThisThread(logging.Filter):
    """Drops what this thread logs, and nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self._thread = threading.get_ident()

    def filter(self, record: logging.LogRecord) -> bool:
        return record.thread != self._thread


@contextmanager
def _pydicom_contained() -> Iterator[None]:
    """Turn whatever pydicom raises into ImageError without its text, and keep its warnings and log lines to ourselves."""
    logger, mute = logging.getLogger("pydicom"), _MuteThisThread()
    logger.addFilter(mute)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except ImageError:
        raise
    except MemoryError:
        raise ImageError("the DICOM image does not fit into memory", "Give a crop of it.") from None
    except Exception as error:  # noqa: BLE001 - a dozen types; `from None`: their text may quote the data set
        raise ImageError(f"the DICOM file is damaged or cut short ({type(error).__name__})", DAMAGED) from None
    finally:
        logger.removeFilter(mute)


def _check_kind(dataset: pydicom.Dataset) -> None:
    """Refuse what is not one grey or colour picture."""
    modality = _modality(dataset) or "of no stated modality"
    if modality == "SEG":
        raise ImageError("this DICOM object is a segmentation, not an image", "Give the image that it was drawn on.")
    if "PixelData" not in dataset:
        raise ImageError(
            f"this DICOM object ({modality}) holds no image", "Give an image, for example CT, MR, US or a photograph."
        )
    # Enhanced objects keep rescale and spacing per frame, in functional groups (PS3.3, C.7.6.16).
    if "SharedFunctionalGroupsSequence" in dataset or "PerFrameFunctionalGroupsSequence" in dataset:
        raise ImageError("this is an enhanced (multi-frame) DICOM object", ONE_FRAME)
    if int(dataset.get("NumberOfFrames") or 1) != 1:
        raise ImageError("this DICOM object holds several frames", ONE_FRAME)
    photometric = dataset.get("PhotometricInterpretation")
    if photometric not in (*GREY, "RGB", "PALETTE COLOR") and not str(photometric).startswith("YBR_"):
        raise ImageError("the DICOM image states no photometric interpretation that we know", DAMAGED)
    if dataset.get("SamplesPerPixel") != (1 if photometric in (*GREY, "PALETTE COLOR") else 3):
        raise ImageError("the DICOM image's samples per pixel do not fit its photometric interpretation", DAMAGED)
    check_size(int(dataset.get("Columns") or 0), int(dataset.get("Rows") or 0))


def _modality(dataset: pydicom.Dataset) -> str:
    """Return the modality where it is a code such as CT, otherwise nothing: it could be any text."""
    modality = str(dataset.get("Modality", ""))
    return modality if re.fullmatch("[A-Z]{2,10}", modality) else ""


def _stored_values(dataset: pydicom.Dataset) -> Pixels:
    """Decode the pixels: (H, W), or (H, W, 3) RGB."""
    syntax = dataset.file_meta.TransferSyntaxUID
    try:
        return dataset.pixel_array
    except (NotImplementedError, RuntimeError):  # no decoder that is installed takes it
        name = syntax.name if syntax.is_transfer_syntax else "an unknown transfer syntax"
        raise ImageError(f"the DICOM pixels cannot be decoded here: {name}", DECODERS) from None


def _without_padding(stored: Pixels, dataset: pydicom.Dataset, notes: list[str]) -> Pixels:
    """Replace pixels outside the scanner's field (Pixel Padding Value), which would upset any intensity scale."""
    padding = dataset.get("PixelPaddingValue")
    if padding is None:
        return stored
    outside = stored == padding
    if not outside.any() or outside.all():
        return stored
    notes.append("padding around the scanner's field was set to the lowest value inside it")
    inside = stored[~outside]
    # of MONOCHROME1 the highest stored value is the darkest
    return np.where(
        outside, inside.max() if dataset.PhotometricInterpretation == "MONOCHROME1" else inside.min(), stored
    )


def _bright(stored: Pixels, dataset: pydicom.Dataset) -> Pixels:
    """Invert MONOCHROME1 within the stored bits, so that larger is always brighter."""
    if dataset.PhotometricInterpretation != "MONOCHROME1":
        return stored
    highest = 2 ** int(dataset.BitsStored) - 1 if dataset.PixelRepresentation == 0 else -1
    return (highest - stored.astype(np.int64)).astype(np.int32)


def _modality_values(stored: Pixels, dataset: pydicom.Dataset) -> Pixels:
    """Stored values => modality values, for CT Hounsfield units: integers where the rescale is whole, otherwise float32."""
    if "ModalityLUTSequence" in dataset:
        return np.asarray(apply_modality_lut(stored, dataset), np.float32)
    slope, intercept = float(dataset.get("RescaleSlope", 1)), float(dataset.get("RescaleIntercept", 0))
    if not (0 < abs(slope) <= MAX_RESCALE and abs(intercept) <= MAX_RESCALE):  # false for NaN too
        raise ImageError("the DICOM rescale slope or intercept is zero or out of range", DAMAGED)
    values = stored * np.float64(slope) + intercept
    whole = slope.is_integer() and intercept.is_integer() and np.abs(values).max() < 2**31
    return values.astype(np.int32 if whole else np.float32)


def _spacing_mm(dataset: pydicom.Dataset, notes: list[str]) -> tuple[float, float] | None:
    """Return Pixel Spacing, (between rows, between columns)."""
    value = dataset.get("PixelSpacing")
    if value is None:
        return None
    spacing = [float(distance) for distance in value] if isinstance(value, pydicom.multival.MultiValue) else []
    if len(spacing) != 2 or not all(math.isfinite(distance) and distance > 0 for distance in spacing):
        notes.append("the DICOM pixel spacing is not valid and was not used")
        return None
    return spacing[0], spacing[1]
