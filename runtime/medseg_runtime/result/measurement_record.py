"""Measurements as result.json holds them, and as one line says them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from medseg_runtime.result.distribution import Distribution
from medseg_runtime.result.limits import Limit
from medseg_runtime.result.measurements import Measurements
from medseg_runtime.result.summary import rounded


def measurement_record(measurements: Sequence[Measurements], limits: Sequence[Limit] = ()) -> list[dict[str, Any]]:
    """Return the entry `measurements` of result.json, one item per class."""
    return [
        {
            "class": each.class_name,
            "slices": each.slices,
            "presence": rounded(each.presence, 6),
            **{name: distribution_record(found) for name, found in each.named().items()},
            "limits": [
                {"measurement": limit.measurement, "limit": float(limit.value), "share_above": share_above(each, limit)}
                for limit in limits
            ],
        }
        for each in measurements
    ]


def share_above(measurements: Measurements, limit: Limit) -> float:
    """Return the share of all samples, empty ones included, above a limit."""
    return measurements.named()[limit.measurement].share_above(limit.value)


def distribution_record(found: Distribution) -> dict[str, Any]:
    """Return a distribution as JSON takes it: figures of all samples, of those that are not empty (`present`), and the values."""
    return {
        "unit": found.unit,
        **_figures(found),
        "present": _figures(found.present),
        "values": [rounded(value, 3) for value in found.values.tolist()],
    }


def _figures(found: Distribution) -> dict[str, Any]:
    return {
        "mean": rounded(found.mean, 3),
        "standard_deviation": rounded(found.standard_deviation, 3),
        "median": rounded(found.median, 3),
        "p5": rounded(found.low, 3),
        "p95": rounded(found.high, 3),
    }


def measurement_figures(measurements: Sequence[Measurements], limits: Sequence[Limit] = ()) -> Iterator[str]:
    """Yield the key figures as text.

    Over several slices or classes how many samples are not empty. Of those area in mm2, long axis and volume, and of all the share above
    each limit.
    """
    for each in measurements:
        name = f"{each.class_name} " if len(measurements) > 1 else ""
        if each.slices > 1 or name:
            over = f"over {each.slices} slices " if each.slices > 1 else ""
            yield f"{name}{over}in {len(each.area.present)} of {len(each.area)} samples"
        area = None if each.area.unit == "px" else each.area
        for title, found in (("area", area), ("long axis", each.long_axis), ("volume", each.volume)):
            if found is not None and len(present := found.present):
                yield f"{name}{title} {said(present)}"
        for limit in limits:
            yield f"{name}{limit.measurement} above {limit.value:g} in {share_above(each, limit):.0%}"


def said(found: Distribution) -> str:
    """Return median and 5th to 95th percentile as text, with the unit."""
    median, low, high = (
        f"{value:.3g}" if value < 100 else f"{value:.0f}" for value in (found.median, found.low, found.high)
    )
    return f"{median} {found.unit} ({low} to {high})"
