"""The segments of the SEG objects: labels and colors that a reader can tell apart, codes, and values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg_runtime.figures.viewport import Color
from medseg_runtime.result.representatives import Representatives
from medseg_runtime.result.segmentation import Segmentation
from medseg_runtime.writers.dicom.codes import Finding, finding
from medseg_runtime.writers.dicom.colors import consensus_color, sample_color
from medseg_runtime.writers.dicom.identity import Tracking

MAX_LABEL = 64
"""Characters of a Segment Label (LO, PS3.5, 6.2)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """One segment of a SEG."""

    label: str
    """What the lists of viewers show."""
    description: str
    finding: Finding
    color: Color
    values: npt.NDArray[np.bool_] | npt.NDArray[np.float32]
    """(slices, H, W)"""
    tracking: Tracking | None = None
    """None for a segment that is one proposal of several."""


def consensus_segments(results: Sequence[Segmentation], tracking: Sequence[Tracking]) -> Iterator[Segment]:
    """Yield the consensus of each class."""
    count = results[0].samples
    for (index, name, code), tracked in zip(_classes(results), tracking, strict=True):
        values = np.stack([_layer(result.consensus, index, 2) for result in results])
        yield Segment(
            label=_label(name, f"consensus of {count} samples{_if_empty(values)}"),
            description=f"Pixels in at least half of {count} samples",
            finding=code,
            color=consensus_color(index),
            values=values,
            tracking=tracked,
        )


def representative_segments(results: Sequence[Segmentation], chosen: Representatives) -> Iterator[Segment]:
    """Yield, of each class, the chosen samples."""
    count = results[0].samples
    for index, name, code in _classes(results):
        layers = [_layer(result.masks, index, 3) for result in results]
        for place, (k, share) in enumerate(zip(chosen.samples, chosen.shares, strict=True)):
            values = np.stack([masks[k] for masks in layers])
            outline = f"outline {place + 1} of {len(chosen)}{_if_empty(values)}"
            yield Segment(
                label=_label(name, f"{outline}, {_percent(share)} of samples"),
                description=f"Sample {k:02d}, which stands for {_percent(share)} of {count} samples",
                finding=code,
                color=sample_color(index * len(chosen) + place),
                values=values,
            )


def confidence_segments(results: Sequence[Segmentation]) -> Iterator[Segment]:
    """Yield the confidence of each class, in [0, 1]."""
    count = results[0].samples
    for index, name, code in _classes(results):
        yield Segment(
            label=_label(name, f"share of {count} samples"),
            description=f"Share of {count} samples that contain the pixel",
            finding=code,
            color=consensus_color(index),
            values=np.stack([_layer(result.confidence, index, 2) for result in results]),
        )


def _classes(results: Sequence[Segmentation]) -> Iterator[tuple[int, str, Finding]]:
    for index, name in enumerate(results[0].classes):
        yield index, name, finding(name, results[0].provenance.task)


def _layer(maps: npt.NDArray[Any], index: int, ndim: int) -> npt.NDArray[Any]:
    """Return the maps of one class. With a single class there is no class axis."""
    return maps if maps.ndim == ndim else maps[..., index, :, :]


def _label(name: str, what: str) -> str:
    """Return class and kind. A name that is too long is cut, not what comes after it."""
    return f"{name[: MAX_LABEL - len(what) - 2]}, {what}"


def _if_empty(values: npt.NDArray[Any]) -> str:
    return "" if values.any() else " (empty)"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.005 else "< 1 %"
