"""Read the measurements of a result folder back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medseg_runtime.errors import ParameterError
from medseg_runtime.files.names import printable
from medseg_runtime.files.read import read_bytes
from medseg_runtime.files.typed_json import MAX_JSON_BYTES, parse_json, typed
from medseg_runtime.result.distribution import Distribution
from medseg_runtime.result.growth import Finding
from medseg_runtime.result.measure import Hypotheses
from medseg_runtime.result.measurements import UNITS, Measurements
from medseg_runtime.writers.folder import RECORD

REMEDY = "Give a result folder of an image or a series that this version of medseg-infer wrote."


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordedResult:
    """What a comparison needs of a result.json."""

    finding: Finding
    input_sha256: tuple[str, ...]
    """Of the image, or of each slice."""
    engine: str
    """Backend and precision."""
    warnings: tuple[str, ...]


def read_result(folder: Path) -> RecordedResult:
    """Read the measurements of a result folder.

    Raises:
        ParameterError: it is no result folder, or its result.json is damaged, of a clip, or of an older version.
    """
    name = printable(folder.name or str(folder))
    content = read_bytes(folder / RECORD, ParameterError, REMEDY, name=f"{name}/{RECORD}", limit=MAX_JSON_BYTES)
    try:
        return _result(parse_json(content.decode()))
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise ParameterError(
            f"{name}/{RECORD} holds no measurements that can be read ({type(error).__name__})", REMEDY
        ) from error


def _result(record: dict[str, Any]) -> RecordedResult:
    sampling, image, engine = record["sampling"], record["input"], record["engine"]
    classes = tuple(typed(str, each["class"], "class") for each in record["measurements"])
    made_from = {name: sampling[name] for name in ("samples", "seed", "sampler", "steps", "threshold")}
    hypotheses = typed(
        Hypotheses, {"bundle_sha256": record["bundle"]["sha256"], "classes": list(classes), **made_from}, "sampling"
    )
    measurements = tuple(_measurements(each, hypotheses.samples) for each in record["measurements"])
    if not measurements:
        raise ValueError("no class")
    return RecordedResult(
        finding=Finding(hypotheses=hypotheses, measurements=measurements),
        input_sha256=typed(tuple[str, ...], image["slices_sha256"] or [image["sha256"]], "sha256"),
        engine=f"{typed(str, engine['name'], 'engine')} {typed(str, engine['precision'], 'precision')}",
        warnings=typed(tuple[str, ...], record["warnings"], "warnings"),
    )


def _measurements(entry: dict[str, Any], samples: int) -> Measurements:
    found: dict[str, Any] = {
        name: _distribution(entry[f"{name}_{unit}"], unit, samples)
        for name, units in UNITS.items()
        for unit in units
        if f"{name}_{unit}" in entry
    }
    slices, presence = typed(int, entry["slices"], "slices"), typed(float, entry["presence"], "presence")
    return Measurements(class_name=entry["class"], slices=slices, presence=presence, **found)


def _distribution(entry: dict[str, Any], unit: str, samples: int) -> Distribution:
    values = typed(tuple[float, ...], entry["values"], "values")
    if len(values) != samples or not all(math.isfinite(value) and value >= 0 for value in values):
        raise ValueError("values")
    return Distribution(np.array(values), unit)
