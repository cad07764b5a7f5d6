"""Parse the values of command-line options."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from medseg_runtime.errors import ParameterError
from medseg_runtime.model.preprocess import Box

if TYPE_CHECKING:
    from medseg_runtime.readers.target import Location
    from medseg_runtime.result.request import Samples


def parse_samples(text: str) -> Samples:
    """Parse --samples: a whole number, or auto.

    Raises:
        ParameterError: the text is neither. The functions below raise it likewise.
    """
    if text == "auto":
        return "auto"
    try:
        return int(text)
    except ValueError as error:
        raise ParameterError(
            f"{text!r} is not a number of samples", "Give --samples 16, for example, or auto."
        ) from error


def parse_region(text: str) -> Box:
    """Parse --roi: X,Y,W,H in pixels."""
    try:
        x, y, width, height = (int(part) for part in text.split(","))
    except ValueError as error:
        raise ParameterError(
            f"the region {text!r} is not four whole numbers", "Give --roi X,Y,W,H in pixels."
        ) from error
    return Box(x=x, y=y, width=width, height=height)


def parse_location(center: str | None, center_mm: str | None, frame: int | None, slices: int) -> Location:
    """Parse --center, --center-mm, --frame and --slices."""
    from medseg_runtime.readers.target import Location

    pixel = None if center is None else _numbers(center, (2, 3), "--center X,Y or X,Y,Z")
    point = None if center_mm is None else _numbers(center_mm, (3,), "--center-mm X,Y,Z")
    return Location(
        center=pixel,
        center_mm=None if point is None else (point[0], point[1], point[2]),
        frame=frame,
        slices=slices,
    )


def _numbers(text: str, counts: tuple[int, ...], form: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) not in counts or not all(math.isfinite(number) for number in numbers):
        raise ParameterError(f"the point {text!r} is not {' or '.join(map(str, counts))} numbers", f"Give {form}.")
    return numbers
