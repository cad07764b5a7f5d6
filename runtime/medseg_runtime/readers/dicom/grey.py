"""Stored values of a grey image => modality values (CT: HU), larger is brighter, and the range that a viewer would show."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pydicom

from medseg_runtime.errors import ImageError
from medseg_runtime.model.preprocess import Pixels
from medseg_runtime.readers.dicom.decode import Stored
from medseg_runtime.readers.dicom.frame_header import FrameHeader
from medseg_runtime.readers.dicom.guard import DAMAGED
from medseg_runtime.readers.dicom.header import modality
from medseg_runtime.readers.dicom.lookup import LookupTable, modality_table

Float64 = npt.NDArray[np.float64]
Range = tuple[float, float]
Transform = Callable[[Pixels], Pixels]
"""From stored to modality values."""

MAX_RESCALE = 1e9
"""Largest plausible magnitude of a slope or intercept."""
PADDING = {0: "PixelPaddingValue", 4: "FloatPixelPaddingValue", 8: "DoubleFloatPixelPaddingValue"}
"""By the bytes of a float; 0 for integers (PS3.3, C.7.5.1.1.2 and C.7.6.24)."""


def grey_values(header: FrameHeader, stored: Stored) -> tuple[Pixels, Range]:
    """Apply the Modality LUT or rescale, replace padding, and invert MONOCHROME1.

    Raises:
        ImageError: the rescale is not possible, or contradicts a Modality LUT.
    """
    transform = _transform(header, stored)
    values = np.asarray(transform(stored.values), np.float64)
    low, high = _range(transform, stored, values)
    inverted = header.dataset.PhotometricInterpretation == "MONOCHROME1"
    values = _without_padding(header, stored, values, inverted=inverted)
    window = _window(header) or _voi_table_range(header) or (low, high)
    if inverted:
        values, window = low + high - values, (low + high - window[1], low + high - window[0])
    whole = bool(stored.bits) and not (transform(np.array([0, 1])) % 1).any()
    return _typed(values, whole=whole), window


def _transform(header: FrameHeader, stored: Stored) -> Transform:
    """Return the function from stored to modality values."""
    slope, intercept = _rescale(header)
    table = _modality_table(header, stored)
    if table is not None:
        if (slope, intercept) != (1, 0):
            raise ImageError("the DICOM image has both a Modality LUT and a rescale, which contradict", DAMAGED)
        return table
    if modality(header.dataset) == "CT":
        unit = header.text("RescaleType")
        if unit not in {"", "HU"}:
            header.warn("the values of this CT are not in Hounsfield units (RescaleType)")
        elif not header.states_rescale():
            header.warn("the values of this CT may not be in Hounsfield units (it has no RescaleSlope)")
    return lambda values: values * np.float64(slope) + intercept


def _rescale(header: FrameHeader) -> tuple[float, float]:
    slope, intercept = header.number("RescaleSlope"), header.number("RescaleIntercept")
    slope, intercept = 1.0 if slope is None else slope, 0.0 if intercept is None else intercept
    if not (0 < abs(slope) <= MAX_RESCALE and abs(intercept) <= MAX_RESCALE):  # false for NaN too
        raise ImageError("the DICOM rescale slope or intercept is zero or out of range", DAMAGED)
    return slope, intercept


def _modality_table(header: FrameHeader, stored: Stored) -> LookupTable | None:
    if "ModalityLUTSequence" not in header.dataset:
        return None
    if not header.dataset.ModalityLUTSequence:
        header.not_used("ModalityLUTSequence", "is empty")
        return None
    return modality_table(header.dataset, signed=stored.signed)


def _range(transform: Transform, stored: Stored, values: Float64) -> Range:
    """Return the lowest and highest modality value of all that the stored bits can hold; of floats, of this image."""
    ends: Pixels
    if isinstance(transform, LookupTable):
        ends = transform.entries
    elif stored.bits:
        first = -(2 ** (stored.bits - 1)) if stored.signed else 0
        ends = transform(np.array([first, first + 2**stored.bits - 1]))
    else:
        ends = values[np.isfinite(values)]
    return (float(ends.min()), float(ends.max())) if ends.size else (0.0, 1.0)


def _window(header: FrameHeader) -> Range | None:
    """Return the ends of the first window (PS3.3, C.11.2.1.2); None without a valid one."""
    center, width = header.numbers("WindowCenter")[:1], header.numbers("WindowWidth")[:1]
    if not (center and width):
        return None
    narrowest = 1.0 if header.text("VOILUTFunction") in {"", "LINEAR"} else np.finfo(np.float64).tiny
    for keyword, valid in (
        ("WindowCenter", math.isfinite(center[0]) and abs(center[0]) <= MAX_RESCALE),
        ("WindowWidth", narrowest <= width[0] <= MAX_RESCALE),
    ):
        if not valid:
            header.not_used(keyword)
            return None
    return center[0] - width[0] / 2, center[0] + width[0] / 2


def _voi_table_range(header: FrameHeader) -> Range | None:
    """Return the modality values of the ends of the first VOI LUT (PS3.3, C.11.2.1.1), if there is one."""
    holder = header.holder("VOILUTSequence")
    tables = holder.get("VOILUTSequence") if holder is not None else None
    try:
        count, first, _ = tables[0].LUTDescriptor if tables else (0, 0, 0)
    except Exception:  # noqa: BLE001 - a damaged table does not matter for the pixels
        header.not_used("VOILUTSequence")
        return None
    return (float(first), float(first + (count or 0x10000) - 1)) if tables else None


def _without_padding(header: FrameHeader, stored: Stored, values: Float64, *, inverted: bool) -> Float64:
    """Replace pixels outside the scanner's field (Pixel Padding Value), which would distort the intensity scale."""
    outside = _padding(header, stored)
    if outside is None or not outside.any() or outside.all():
        return values
    header.warn("padding around the scanner's field was set to the lowest value inside it")
    inside = values[~outside]
    darkest = inside.max() if inverted else inside.min()  # in MONOCHROME1 the highest value is the darkest
    return np.where(outside, darkest, values)


def _padding(header: FrameHeader, stored: Stored) -> npt.NDArray[np.bool_] | None:
    """Return where the image is padded: (H, W); None without a valid Pixel Padding Value."""
    keyword = PADDING[0 if stored.bits else stored.values.dtype.itemsize]
    value, limit = (_padding_end(header, stored, each) for each in (keyword, keyword.replace("Value", "RangeLimit")))
    if not stored.bits:
        outside = ~np.isfinite(stored.values)
        return outside if value is None else outside | _between(stored.values, value, value if limit is None else limit)
    if value is None:
        return None
    ends = (value, value if limit is None else limit)
    first, last = (_as_stored(int(end), header.dataset) for end in ends)
    lowest = -(2 ** (stored.bits - 1)) if stored.signed else 0
    # Scanners also pad with values that the stored bits cannot hold.
    fits = lowest <= min(first, last) and max(first, last) < lowest + 2**stored.bits
    return _between(stored.values if fits else stored.cells, first, last)


def _padding_end(header: FrameHeader, stored: Stored, keyword: str) -> float | None:
    """Return Pixel Padding Value or Range Limit, a whole number for integers; None, with a warning, if it is not valid."""
    end = header.number(keyword)
    if end is not None and stored.bits and not end.is_integer():
        header.not_used(keyword)
        return None
    return end


def _between(values: Pixels, one: float, other: float) -> npt.NDArray[np.bool_]:
    return (values >= min(one, other)) & (values <= max(one, other))


def _as_stored(value: int, dataset: pydicom.Dataset) -> int:
    """Return the same bits with the sign of the pixels: scanners write -2000 as 63536 (VR US) for signed pixels."""
    count: int = 1 << int(dataset.BitsAllocated)
    unsigned = value % count
    return unsigned - count if dataset.PixelRepresentation == 1 and unsigned >= count // 2 else unsigned


def _typed(values: Float64, *, whole: bool) -> Pixels:
    """Return whole numbers as int32 or uint32 if they fit, and others as float32."""
    low, high = values.min(), values.max()
    if whole and low >= -(2**31) and high < 2**31:
        return values.astype(np.int32)
    return values.astype(np.uint32) if whole and low >= 0 and high < 2**32 else values.astype(np.float32)
