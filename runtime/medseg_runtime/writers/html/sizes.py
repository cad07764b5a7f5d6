"""Measurements as a report carries them: the values of all samples, and the figures that the table shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from medseg_runtime.result.distribution import Distribution
from medseg_runtime.result.limits import Limit
from medseg_runtime.result.measurements import Measurements
from medseg_runtime.result.summary import rounded

UNITLESS = ("_mm3", "_mm2", "_mm", "_px")


def sizes(measured: Sequence[Measurements], limits: Sequence[Limit] = ()) -> list[dict[str, Any]]:
    """Return the measurements of all classes for `report.js`, volumes first, each with the last limit that is given of it."""
    given = {limit.measurement: limit.value for limit in limits}
    return [
        _entry(index, name, distribution, given.get(name), _note(each, len(distribution)))
        for index, each in enumerate(measured)
        for name, distribution in sorted(each.named().items(), key=lambda pair: pair[1].unit != "mm3")
    ]


def _entry(class_index: int, name: str, distribution: Distribution, limit: float | None, note: str) -> dict[str, Any]:
    found = distribution.present
    above = (
        "" if limit is None else f"{100 * distribution.share_above(limit):.0f} % of all samples are above {limit:g}."
    )
    return {
        "class": class_index,
        "name": _plain(name),
        "unit": distribution.unit,
        "values": [rounded(value) for value in distribution.values.tolist()],
        "median": rounded(found.median),
        "low": rounded(found.low),
        "high": rounded(found.high),
        "limit": limit,
        "note": " ".join(filter(None, (above, note))),
    }


def _plain(name: str) -> str:
    """Return a name without its unit, as words."""
    for ending in UNITLESS:
        name = name.removesuffix(ending)
    return name.replace("_", " ")


def _note(measured: Measurements, samples: int) -> str:
    empty = samples - round(measured.presence * samples)
    if not empty:
        return ""
    if empty == samples:
        return "All samples are empty: the model sees nothing here."
    return f"{empty} of {samples} samples are empty. Median and range are of the other {100 * measured.presence:.0f} %."
