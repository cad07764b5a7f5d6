"""DICOM images, by way of pydicom: CT, MR, CR and DX, US, endoscopy and photographs; a file, or one frame of it.

    bytes => data set, checked => stored values => modality values (CT: HU), larger is brighter; or RGB

Grey: the modality rescale or LUT is applied, padding becomes the lowest value of the rest, and MONOCHROME1 is inverted, which
pydicom does not do. The window is not applied, because a model scales intensities itself. It is kept as `value_range`, the range that
the rule `unit` maps to [0, 1]; without a window that is the range of the stored bits. Color: RGB, which pydicom converts YBR to.
Enhanced objects keep these values per frame. highdicom applies them to their grey images (PS3.3, C.7.6.16).
"""

from __future__ import annotations

import copy
import io
import math

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut
from pydicom.pixels.utils import pixel_array

from medseg_runtime.errors import ImageError, ParameterError
from medseg_runtime.model.preprocess import Pixels, as_image
from medseg_runtime.readers.dicom.guard import DAMAGED, import_highdicom, reading
from medseg_runtime.readers.dicom.header import GREY, check_kind, frame_header, is_enhanced, modality, numbers, plane_of
from medseg_runtime.readers.source import DicomOrigin, SourceImage

MAX_RESCALE = 1e9
"""Largest plausible magnitude of a slope or intercept."""
DECODERS = (
    "Run `pip install 'medseglatdiff[dicom]'` for more decoders (JPEG Lossless: `pip install pylibjpeg-libjpeg`, "
    "which is GPL-3), or decompress it with dcmtk's `dcmdjpeg`."
)


def read_dicom(content: bytes, sha256: str, frame: int | None = None) -> SourceImage:
    """Decode the bytes of a DICOM file.

    frame: of a multi-frame object, counted from 1.

    Raises:
        ImageError: damaged, not an image, several frames and none chosen, or pixels that cannot be decoded.
        ParameterError: there is no such frame.
    """
    with reading():
        dataset = pydicom.dcmread(io.BytesIO(content))
        frames = check_kind(dataset)
        number = _frame_number(frame, frames)
        header = frame_header(dataset, number)
        notes: list[str] = []
        stored = _stored_values(dataset, number)
        if stored.shape[:2] != (dataset.Rows, dataset.Columns):
            raise ImageError("the DICOM pixels do not have the stated rows and columns", DAMAGED)
        if dataset.PhotometricInterpretation in GREY:
            pixels, value_range = _grey(dataset, header, number, stored, notes)
        else:
            color = stored
            if dataset.PhotometricInterpretation == "PALETTE COLOR":
                color = apply_color_lut(stored, dataset)[:, :, :3]
            pixels, value_range = color, _color_range(color, dataset)
        if dataset.get("BurnedInAnnotation") == "YES":
            notes.append("text is burned into the pixels (Burned In Annotation is YES), and the overlay shows it too")
        spacing = _spacing_mm(header, notes)
        return SourceImage(
            pixels=as_image(pixels),
            sha256=sha256,
            kind=f"DICOM {modality(dataset)}".strip(),
            spacing_mm=spacing,
            value_range=value_range,
            warnings=tuple(notes),
            dicom=DicomOrigin(
                header=_without_pixels(dataset), frame=number, frames=frames, plane=plane_of(dataset, number)
            ),
        )


def _frame_number(frame: int | None, frames: int) -> int:
    if frame is None and frames != 1:
        raise ImageError(
            f"this DICOM object holds several frames ({frames})", f"Choose one with --frame K, from 1 to {frames}."
        )
    if frame is not None and not 1 <= frame <= frames:
        raise ParameterError(f"there is no frame {frame}", f"Give --frame K from 1 to {frames}.")
    return frame or 1


def _stored_values(dataset: pydicom.Dataset, number: int) -> Pixels:
    """Decode one frame: (H, W), or (H, W, 3) RGB."""
    syntax = dataset.file_meta.TransferSyntaxUID
    try:
        return pixel_array(dataset, index=number - 1)
    except (NotImplementedError, RuntimeError):  # no decoder is installed, or none could decode the pixels
        name = syntax.name if syntax.is_transfer_syntax else "an unknown transfer syntax"
        if _is_decoded_here(syntax):
            raise ImageError(f"the DICOM pixels are damaged or cut short ({name})", DAMAGED) from None
        raise ImageError(f"the DICOM pixels cannot be decoded here: {name}", DECODERS) from None


def _is_decoded_here(syntax: pydicom.uid.UID) -> bool:
    try:
        return bool(get_decoder(syntax).is_available)
    except NotImplementedError:  # pydicom has no decoder of this syntax
        return False


def _grey(
    dataset: pydicom.Dataset, header: pydicom.Dataset, number: int, stored: Pixels, notes: list[str]
) -> tuple[Pixels, tuple[float, float]]:
    """Stored values => modality values, larger is brighter, and the range that a viewer would show."""
    slope, intercept = _rescale(header)
    if is_enhanced(dataset):
        highdicom = import_highdicom("an enhanced (multi-frame) DICOM object")
        image = highdicom.Image.from_dataset(copy.copy(dataset), copy=False)
        values = image.get_frame(
            number, apply_modality_transform=None, apply_real_world_transform=False, apply_presentation_lut=False
        )
    elif "ModalityLUTSequence" in dataset:
        values = np.asarray(apply_modality_lut(stored, dataset), np.float64)
        slope, intercept = float("nan"), float("nan")
    else:
        values = stored * np.float64(slope) + intercept
    low, high = _stored_range(dataset, slope, intercept, values)
    values = _without_padding(values, stored, dataset, notes)
    window = _window(header) or (low, high)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        values, window = low + high - values, (low + high - window[1], low + high - window[0])
    whole = slope.is_integer() and intercept.is_integer() and np.abs(values).max() < 2**31
    return values.astype(np.int32 if whole else np.float32), window


def _rescale(header: pydicom.Dataset) -> tuple[float, float]:
    slope, intercept = float(header.get("RescaleSlope", 1)), float(header.get("RescaleIntercept", 0))
    if not (0 < abs(slope) <= MAX_RESCALE and abs(intercept) <= MAX_RESCALE):  # false for NaN too
        raise ImageError("the DICOM rescale slope or intercept is zero or out of range", DAMAGED)
    return slope, intercept


def _stored_range(
    dataset: pydicom.Dataset, slope: float, intercept: float, values: npt.NDArray[np.float64]
) -> tuple[float, float]:
    """Return the modality values of the lowest and the highest number that the stored bits can hold."""
    if math.isnan(slope):  # a LUT has no such range: take the extremes of this image
        return float(values.min()), float(values.max())
    bits = int(dataset.BitsStored)
    first = -(2 ** (bits - 1)) if dataset.PixelRepresentation == 1 else 0
    ends = sorted((slope * first + intercept, slope * (first + 2**bits - 1) + intercept))
    return ends[0], ends[1]


def _window(header: pydicom.Dataset) -> tuple[float, float] | None:
    """Return the ends of the first linear window (PS3.3, C.11.2.1.2); None without a valid one."""
    center, width = numbers(header.get("WindowCenter"))[:1], numbers(header.get("WindowWidth"))[:1]
    if not (center and width and math.isfinite(center[0]) and 1 <= width[0] <= MAX_RESCALE):
        return None
    return center[0] - width[0] / 2, center[0] + width[0] / 2


def _without_padding(
    values: npt.NDArray[np.float64], stored: Pixels, dataset: pydicom.Dataset, notes: list[str]
) -> npt.NDArray[np.float64]:
    """Replace pixels outside the scanner's field (Pixel Padding Value), which would distort the intensity scale."""
    padding = dataset.get("PixelPaddingValue")
    if padding is None:
        return values
    padding, limit = (_as_stored(v, dataset) for v in (padding, dataset.get("PixelPaddingRangeLimit", padding)))
    outside = (stored >= min(padding, limit)) & (stored <= max(padding, limit))
    if not outside.any() or outside.all():
        return values
    notes.append("padding around the scanner's field was set to the lowest value inside it")
    inside = values[~outside]
    # in MONOCHROME1 the highest value is the darkest
    darkest = inside.max() if dataset.PhotometricInterpretation == "MONOCHROME1" else inside.min()
    return np.where(outside, darkest, values)


def _as_stored(value: int, dataset: pydicom.Dataset) -> int:
    """Return the same bits with the sign of the pixels: scanners write -2000 as 63536 (VR US) for signed pixels."""
    count: int = 1 << int(dataset.BitsAllocated)
    unsigned = int(value) % count
    return unsigned - count if dataset.PixelRepresentation == 1 and unsigned >= count // 2 else unsigned


def _color_range(color: Pixels, dataset: pydicom.Dataset) -> tuple[float, float]:
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        dtype: np.dtype = color.dtype
        return 0.0, float(np.iinfo(dtype).max)
    return 0.0, float(2 ** int(dataset.BitsStored) - 1)


def _spacing_mm(header: pydicom.Dataset, notes: list[str]) -> tuple[float, float] | None:
    """Return Pixel Spacing: (between rows, between columns) in mm."""
    if header.get("PixelSpacing") is None:
        return None
    spacing = numbers(header.PixelSpacing)
    if len(spacing) != 2 or not all(math.isfinite(distance) and distance > 0 for distance in spacing):
        notes.append("the DICOM pixel spacing is not valid and was not used")
        return None
    return spacing[0], spacing[1]


def _without_pixels(dataset: pydicom.Dataset) -> pydicom.Dataset:
    """Drop the encoded pixels, to keep them in memory only once."""
    del dataset.PixelData
    return dataset
