"""Lookup tables: Modality LUT (PS3.3, C.11.1) and palettes (C.7.6.3.1.5, C.7.9)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.pixels.processing import apply_color_lut

from medseg_runtime.errors import ImageError
from medseg_runtime.model.preprocess import Pixels
from medseg_runtime.readers.dicom.guard import DAMAGED

COLORS = ("Red", "Green", "Blue")


@dataclass(frozen=True, slots=True)
class LookupTable:
    """Entries for consecutive stored values. What lies beyond the ends gets the entry of the end."""

    first: int
    """Stored value of the first entry."""
    entries: npt.NDArray[np.uint8 | np.uint16]
    """(N,), or (N, 3) RGB."""

    def __call__(self, stored: Pixels) -> Pixels:
        """Stored values (H, W) => entries (H, W) or (H, W, 3)."""
        index = np.clip(stored.astype(np.int64) - self.first, 0, len(self.entries) - 1)
        return self.entries[index]


def modality_table(dataset: pydicom.Dataset, *, signed: bool) -> LookupTable:
    """Return the table of the only item of Modality LUT Sequence.

    signed: whether the stored values are.

    Raises:
        ImageError: it is damaged.
    """
    try:
        (item,) = dataset.ModalityLUTSequence
        count, first, _ = _descriptor(item.LUTDescriptor, signed=signed)
        return LookupTable(first, _entries(item.LUTData, count, _byte_order(dataset)))
    except Exception:  # noqa: BLE001 - of pydicom and NumPy, for damaged tables
        raise ImageError("ModalityLUTSequence of the DICOM image is damaged or incomplete", DAMAGED) from None


def palette_table(dataset: pydicom.Dataset, *, signed: bool) -> LookupTable:
    """Return the palette of a PALETTE COLOR image. signed: whether the stored values are.

    Entries of 8 bits are often written as the low bytes of words, and some writers state 16 bits for them. So words that are all below 256
    are taken as 8 bits: as 16, every color would be black.

    Raises:
        ImageError: it is absent, damaged, or not the same size for each color.
    """
    try:
        table = _palette(dataset, signed=signed)
    except Exception:  # noqa: BLE001 - of pydicom and NumPy, for damaged tables
        raise ImageError("the palette of the DICOM image is damaged or incomplete", DAMAGED) from None
    return replace(table, entries=table.entries.astype(np.uint8)) if table.entries.max() < 0x100 else table


def _palette(dataset: pydicom.Dataset, *, signed: bool) -> LookupTable:
    descriptors = {
        _descriptor(dataset[f"{color}PaletteColorLookupTableDescriptor"].value, signed=signed) for color in COLORS
    }
    ((count, first, bits),) = descriptors
    if f"Segmented{COLORS[0]}PaletteColorLookupTableData" in dataset:
        return LookupTable(first, _expanded(dataset, count, bits))
    order = _byte_order(dataset)
    data = [dataset[f"{color}PaletteColorLookupTableData"].value for color in COLORS]
    return LookupTable(first, np.stack([_entries(values, count, order) for values in data], axis=-1))


def _descriptor(value: Sequence[int], *, signed: bool) -> tuple[int, int, int]:
    """Return number of entries, first stored value and bits of an entry."""
    count, first, bits = (int(number) for number in value)
    if signed and first > 0x7FFF:  # written as unsigned
        first -= 0x10000
    return count % 0x10000 or 0x10000, first, bits  # 0 means 65536


def _byte_order(dataset: pydicom.Dataset) -> str:
    return "<" if dataset.file_meta.TransferSyntaxUID.is_little_endian else ">"


def _entries(data: Any, count: int, order: str) -> npt.NDArray[np.uint8 | np.uint16]:
    """Return the entries of a table: words, or bytes if there are too few bytes for words."""
    if not isinstance(data, bytes):
        return np.asarray(data, np.int64).reshape(-1).astype(np.uint16)[:count]
    if len(data) >= 2 * count:
        return np.frombuffer(data, f"{order}u2", count).astype(np.uint16)
    words = np.frombuffer(data[: len(data) // 2 * 2], f"{order}u2")  # two entries a word, the lower byte first
    packed = words.astype("<u2").view(np.uint8) if order == ">" else np.frombuffer(data, np.uint8)
    if len(packed) < count:
        raise ValueError
    return packed[:count]


def _expanded(dataset: pydicom.Dataset, count: int, bits: int) -> npt.NDArray[np.uint8 | np.uint16]:
    """Expand a segmented palette: pydicom applies it to every index."""
    from_zero = pydicom.Dataset()
    from_zero.file_meta = dataset.file_meta
    for color in COLORS:
        setattr(from_zero, f"{color}PaletteColorLookupTableDescriptor", [count % 0x10000, 0, bits])
        keyword = f"Segmented{color}PaletteColorLookupTableData"
        from_zero[keyword] = dataset[keyword]
    if bits == 8 and count > 256:
        raise ValueError
    colors: npt.NDArray[Any] = apply_color_lut(np.arange(count)[None], from_zero)
    return np.ascontiguousarray(colors[0, :, :3])
