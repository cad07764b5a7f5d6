"""What the samples of one class measure: area, axes and, over several slices, volume.

    area                  pixels inside, times the area of a pixel. Over slices: the largest
    long_axis             `axes.axes` says how pixels count. Over slices: the longest
    short_axis            of the slice with the longest long axis
    mean_diameter         the mean of the two (Fleischner Society 2017)
    volume                sum over slices of area x thickness; a slice reaches half way to its neighbours along their normal, and
                          the first and the last one as far outwards as inwards
    equivalent_diameter   of the sphere of that volume

Lengths are in mm where the image states its spacing, else in pixels. An empty sample measures 0 in all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medseg_runtime.errors import ImageError
from medseg_runtime.readers.patient_plane import TILT, PatientPlane
from medseg_runtime.readers.stack import HOLE, SAME_MM, usual_gap_mm
from medseg_runtime.result.axes import axes
from medseg_runtime.result.distribution import Distribution

Bool = npt.NDArray[np.bool_]
Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasuredSlice:
    """The masks of one image, and the size of its pixels."""

    masks: Bool
    """(N, classes, H, W)."""
    spacing_mm: tuple[float, float] | None
    """Of rows, then of columns; None if it is not known."""
    plane: PatientPlane | None
    """None if the position in the patient is not known."""
    cut: Bool
    """(N, classes) whether the mask reaches a side of the field beyond which the image goes on."""


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Measurements:
    """What the N samples of one class measure. Each distribution has N values, and 0 for an empty sample."""

    class_name: str
    slices: int
    presence: float
    """Share of the samples that are not empty, in [0, 1]: how likely the model holds it that anything is there."""
    area: Distribution
    long_axis: Distribution
    short_axis: Distribution
    mean_diameter: Distribution
    volume: Distribution | None = None
    """In mm3; None of a single slice, and where the positions of the slices are not known."""
    equivalent_diameter: Distribution | None = None
    """Likewise, in mm."""
    warnings: tuple[str, ...] = ()
    """Why the figures may not be those of the whole finding, one sentence each."""

    def named(self) -> dict[str, Distribution]:
        """Return the distributions by name with unit: `area_mm2`, `long_axis_mm` and so on, or `area_px`, `long_axis_px`."""
        found = {name: getattr(self, name) for name in NAMES}
        return {f"{name}_{each.unit}": each for name, each in found.items() if each is not None}


UNITS = {
    "area": ("mm2", "px"),
    "long_axis": ("mm", "px"),
    "short_axis": ("mm", "px"),
    "mean_diameter": ("mm", "px"),
    "volume": ("mm3",),
    "equivalent_diameter": ("mm",),
}
"""Of each measurement: where the spacing is known, and where it is not."""
NAMES = tuple(UNITS)


def measured(slices: Sequence[MeasuredSlice], classes: Sequence[str]) -> tuple[Measurements, ...]:
    """Measure the samples of one image, or of parallel slices in their order: sample k of all slices together is one finding.

    Raises:
        ImageError: the slices are not parallel, or not in the order of their positions.
    """
    in_mm = all(each.spacing_mm is not None for each in slices)
    planes = [each.plane for each in slices if each.plane is not None]
    gaps = slice_gaps_mm(planes) if in_mm and len(planes) == len(slices) > 1 else None
    spacing = [each.spacing_mm if in_mm and each.spacing_mm is not None else (1.0, 1.0) for each in slices]
    return tuple(
        _of_class(
            name,
            [
                np.count_nonzero(each.masks[:, c], axis=(1, 2)) * s[0] * s[1]
                for each, s in zip(slices, spacing, strict=True)
            ],
            [axes(each.masks[:, c], s) for each, s in zip(slices, spacing, strict=True)],
            gaps,
            cut=int(np.count_nonzero(np.any([each.cut[:, c] for each in slices], axis=0))),
            in_mm=in_mm,
        )
        for c, name in enumerate(classes)
    )


def _of_class(
    name: str, areas: Sequence[Float64], lengths: Sequence[Float64], gaps: Float64 | None, *, cut: int, in_mm: bool
) -> Measurements:
    """areas: (N,) for each slice. lengths: (N, 2) likewise. gaps: (slices - 1,) in mm, if there is a volume. cut: samples at the field's side."""
    area, both = np.array(areas, np.float64), np.array(lengths)
    longest = both[both[:, :, 0].argmax(axis=0), np.arange(area.shape[1])]  # (N, 2)
    length = "mm" if in_mm else "px"
    volume = None if gaps is None else thickness_mm(gaps) @ area
    return Measurements(
        class_name=name,
        slices=len(area),
        presence=float(area.any(axis=0).mean()),
        area=Distribution(area.max(axis=0), "mm2" if in_mm else "px"),
        long_axis=Distribution(longest[:, 0], length),
        short_axis=Distribution(longest[:, 1], length),
        mean_diameter=Distribution(longest.mean(axis=1), length),
        volume=None if volume is None else Distribution(volume, "mm3"),
        equivalent_diameter=None if volume is None else Distribution(np.cbrt(6 * volume / np.pi), "mm"),
        warnings=(*_field_warning(cut, area.shape[1]), *_volume_warnings(area, gaps)),
    )


def slice_gaps_mm(planes: Sequence[PatientPlane]) -> Float64:
    """Return the distances between at least two neighbouring slices along their normal, (slices - 1,).

    Raises:
        ImageError: the slices are not parallel, or not in the order of their positions.
    """
    normals = np.array([plane.normal for plane in planes])
    if np.abs(normals - normals[0]).max() > TILT:
        raise ImageError("the slices are not parallel, and have no volume together", "Measure slices of one series.")
    gaps = np.diff(np.array([plane.position for plane in planes]) @ normals[0])
    if np.abs(gaps).min() < SAME_MM or (gaps > 0).any() != (gaps > 0).all():
        raise ImageError(
            "the slices are not in the order of their positions, or two lie in one place",
            "Measure each slice of a series once, in order.",
        )
    return np.asarray(np.abs(gaps), np.float64)


def thickness_mm(gaps: Float64) -> Float64:
    """Return how much of the normal each slice stands for, (slices,): gaps (slices - 1,)."""
    return np.asarray((np.append(gaps, gaps[-1]) + np.insert(gaps, 0, gaps[0])) / 2, np.float64)


def _field_warning(cut: int, samples: int) -> Iterator[str]:
    if cut:
        yield (
            f"{cut} of {samples} samples reach the side of the field that the network saw: they may be parts, so move the point or the region"
        )


def _volume_warnings(area: Float64, gaps: Float64 | None) -> Iterator[str]:
    """Yield why a volume may be wrong. area: (slices, N)."""
    if gaps is None:
        return
    holes = sum(gap > HOLE * usual_gap_mm(gaps, index) for index, gap in enumerate(gaps)) if len(gaps) > 1 else 0
    if holes:
        yield (
            f"slices are missing in {holes} of the {len(gaps)} gaps between the slices: the volume is interpolated there"
        )
    cut = np.count_nonzero(area[0].astype(bool) | area[-1].astype(bool))
    if cut:
        yield (
            f"{cut} of {area.shape[1]} samples reach the first or the last of the {len(area)} slices: their volume may be that of a part, "
            "so segment more slices"
        )
