"""Limits that a user gives for measurements, such as volume_mm3=250, and the share of samples above them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real

from medseg_runtime.errors import ParameterError
from medseg_runtime.readers.source import SourceImage
from medseg_runtime.result.measurements import UNITS

IN_PIXELS = tuple(f"{name}_px" for name, units in UNITS.items() if "px" in units)
IN_MM = tuple(f"{name}_{units[0]}" for name, units in UNITS.items() if "px" in units)
OF_VOLUME = tuple(f"{name}_{units[0]}" for name, units in UNITS.items() if "px" not in units)
"""Names of measurements with their unit, as `Measurements.named` has them."""
EXAMPLE = "volume_mm3=250"


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit of one measurement.

    Raises:
        ParameterError: there is no such measurement, or the limit is not a finite number of at least 0.
    """

    measurement: str
    """Name with unit: `area_mm2`, `long_axis_mm`, `short_axis_mm`, `mean_diameter_mm`, `volume_mm3`, `equivalent_diameter_mm`; where
    the spacing is not known, `area_px`, `long_axis_px` and so on."""
    value: float

    def __post_init__(self) -> None:
        names = (*IN_MM, *OF_VOLUME, *IN_PIXELS)
        if self.measurement not in names:
            raise ParameterError(
                f"there is no measurement {self.measurement!r:.40}", f"Give one of {', '.join(names)}."
            )
        number = isinstance(self.value, Real) and not isinstance(self.value, bool)
        if not (number and math.isfinite(self.value) and self.value >= 0):
            raise ParameterError(
                f"the limit {self.measurement}={self.value!r:.40} is not a number of at least 0",
                f"Give a number, for example {EXAMPLE}.",
            )

    @classmethod
    def parse(cls, text: str) -> Limit:
        """Parse NAME=NUMBER.

        Raises:
            ParameterError: it is not that.
        """
        name, _, number = text.partition("=")
        try:
            return cls(name.strip(), float(number))
        except ValueError as error:
            if isinstance(error, ParameterError):
                raise
            raise ParameterError(
                f"{text!r:.60} is not a limit", f"Give --limit NAME=NUMBER, for example {EXAMPLE}."
            ) from error

    def __str__(self) -> str:
        return f"{self.measurement}={self.value:g}"


def check_limits(limits: Sequence[Limit], images: Sequence[SourceImage]) -> None:
    """Refuse limits of what these images, one or the slices of a series, do not let be measured.

    Raises:
        ParameterError: a limit in mm where the spacing is not known, in pixels where it is, or of a volume of one slice.
    """
    in_mm = all(image.spacing_mm is not None for image in images)
    for limit in limits:
        if limit.measurement in IN_PIXELS and in_mm:
            raise ParameterError(
                f"the limit {limit} is in pixels, and sizes of this image are in mm",
                f"Give it in mm: {', '.join(IN_MM)}.",
            )
        if limit.measurement not in IN_PIXELS and not in_mm:
            raise ParameterError(
                f"the limit {limit} is in mm, and the image states no size of its pixels",
                f"Give it in pixels ({', '.join(IN_PIXELS)}), or give an image that states its spacing.",
            )
        if limit.measurement not in OF_VOLUME:
            continue
        if len(images) < 2:
            raise ParameterError(
                f"the limit {limit} is of a volume, and one slice has none",
                "Give the series with a point and more --slices, or a limit of the area or an axis.",
            )
        if any(image.plane is None for image in images):
            raise ParameterError(
                f"the limit {limit} is of a volume, and the slices state no position in the patient",
                "Give a limit of the area or an axis.",
            )
