"""The header of one frame: where each value is stated, and values that are not valid.

An enhanced object states the values of a frame in functional groups: of the frame, or shared by all (PS3.3, C.7.6.16). Each value comes
from the one macro that the standard defines for it. Other sequences, private ones among them, often repeat the same elements with other
values and never decide.

A value that cannot be used counts as absent, and a warning names its element. Values may identify a patient and are never quoted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import pydicom

from medseg_runtime.errors import ImageError
from medseg_runtime.readers.dicom.guard import DAMAGED
from medseg_runtime.readers.dicom.header import number_of_frames

FUNCTIONAL_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
MACROS = {
    "PixelSpacing": "PixelMeasuresSequence",  # C.7.6.16.2.1
    "SliceThickness": "PixelMeasuresSequence",
    "ImagePositionPatient": "PlanePositionSequence",  # C.7.6.16.2.3
    "ImageOrientationPatient": "PlaneOrientationSequence",  # C.7.6.16.2.4
    "RescaleSlope": "PixelValueTransformationSequence",  # C.7.6.16.2.9
    "RescaleIntercept": "PixelValueTransformationSequence",
    "RescaleType": "PixelValueTransformationSequence",
    "WindowCenter": "FrameVOILUTSequence",  # C.7.6.16.2.10
    "WindowWidth": "FrameVOILUTSequence",
    "VOILUTFunction": "FrameVOILUTSequence",
    "VOILUTSequence": "FrameVOILUTSequence",
}
"""The functional group macro in which an enhanced object states a value (PS3.3, C.7.6.16.2)."""
MAY_BE_EMPTY = frozenset({"SliceThickness", "GantryDetectorTilt"})
"""Elements of type 2 or 3: empty means unknown."""


def is_enhanced(dataset: pydicom.Dataset) -> bool:
    """Tell whether values and geometry are kept per frame, in functional groups."""
    return any(dataset.get(keyword) for keyword in FUNCTIONAL_GROUPS)


class FrameHeader:
    """Values of one frame, and warnings about those that are not valid."""

    def __init__(self, dataset: pydicom.Dataset, number: int = 1) -> None:
        """number: of the frame, counted from 1.

        Raises:
            ImageError: the functional groups do not fit the number of frames.
        """
        self.dataset = dataset
        self.frames = number_of_frames(dataset)
        self.enhanced = is_enhanced(dataset)
        self.warnings: list[str] = []
        shared, per_frame = (list(dataset.get(keyword) or []) for keyword in FUNCTIONAL_GROUPS)
        if self.enhanced and (len(shared) > 1 or len(per_frame) not in (0, self.frames)):
            raise ImageError("the functional groups of the DICOM object do not fit its number of frames", DAMAGED)
        self._groups = (*per_frame[number - 1 : number], *shared)  # a frame's own groups come first

    def warn(self, text: str) -> None:
        """Add a warning, once."""
        if text not in self.warnings:
            self.warnings.append(text)

    def not_used(self, keyword: str, because: str = "is not valid") -> None:
        """Warn that a value is left out."""
        self.warn(f"{keyword} {because} and was not used")

    def holder(self, keyword: str) -> pydicom.Dataset | None:
        """Return the data set that states an element: a macro's item, or the object itself; None if none does.

        Raises:
            ImageError: the rescale has several items, so that it is not clear which one applies.
        """
        macros = list(self._macros(keyword))
        for item in macros:
            if keyword in item:
                return item
        # Without such a macro the object may state one value for all frames, but not one position.
        for_all = not macros and not (keyword == "ImagePositionPatient" and self.enhanced and self.frames > 1)
        return self.dataset if for_all and keyword in self.dataset else None

    def _macros(self, keyword: str) -> Iterator[pydicom.Dataset]:
        name = MACROS.get(keyword)
        for groups in self._groups if name else ():
            items = groups.get(name)
            if not isinstance(items, pydicom.Sequence) or not items:
                continue
            if len(items) == 1:
                yield items[0]
            elif name == MACROS["RescaleSlope"]:
                raise ImageError(f"the functional group {name} of the DICOM object has several items", DAMAGED)
            else:  # it does not matter for the pixels
                self.not_used(str(name), "has several items")
                yield pydicom.Dataset()

    def states_rescale(self) -> bool:
        """Tell whether there is a rescale, valid or not."""
        return self.holder("RescaleSlope") is not None or self.holder("RescaleIntercept") is not None

    def text(self, keyword: str) -> str:
        """Return a value as text; empty if it is absent or cannot be read."""
        holder = self.holder(keyword)
        try:
            return "" if holder is None or holder[keyword].is_empty else str(holder[keyword].value).strip()
        except Exception:  # noqa: BLE001 - a value of another type than its VR says
            return ""

    def numbers(self, keyword: str) -> list[float]:
        """Return the numbers of a value of any multiplicity; an empty list, with a warning, if it is empty or not of numbers."""
        holder = self.holder(keyword)
        if holder is None:
            return []
        try:
            value = holder[keyword].value
            parts = list(value) if isinstance(value, Sequence) and not isinstance(value, str | bytes) else [value]
            found = [_number(part) for part in _without_empty_end(parts)]
        except Exception:  # noqa: BLE001 - pydicom raises many types for values that do not fit their VR
            self.not_used(keyword, "is not a number")
            return []
        if not found and keyword not in MAY_BE_EMPTY:
            self.not_used(keyword, "is empty")
        return found

    def number(self, keyword: str) -> float | None:
        """Return a single number; None if it is absent, or with a warning if it is not valid."""
        found = set(self.numbers(keyword))
        if len(found) > 1:
            self.not_used(keyword, "has several values")
        return found.pop() if len(found) == 1 else None

    def vector(self, keyword: str, length: int) -> list[float]:
        """Return this many finite numbers; an empty list if they are absent, or with a warning if they are not valid."""
        found = self.numbers(keyword)
        if found and (len(found) != length or not all(math.isfinite(number) for number in found)):
            self.not_used(keyword)
            return []
        return found


def _without_empty_end(parts: list[Any]) -> list[Any]:
    """Leave out empty values at the end. One before others keeps its place, and is not a number."""
    while parts and _is_empty(parts[-1]):
        parts.pop()
    return [math.nan if _is_empty(part) else part for part in parts]


def _is_empty(part: Any) -> bool:
    return part is None or not str(part).strip()


def _number(part: Any) -> float:
    """Convert one value. Python would take 1_0 as 10."""
    written = getattr(part, "original_string", part)
    if isinstance(written, int | float):
        return float(written)
    text = (written.decode("ascii") if isinstance(written, bytes) else str(written)).strip(" \0\t\r\n")
    if "_" in text:
        raise ValueError
    return float(text)
