"""A result in numbers: the content of result.json."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from medseg_runtime.readers.source import SourceImage
from medseg_runtime.result.provenance import Provenance
from medseg_runtime.result.segmentation import Segmentation

RESULT_VERSION = 1
NOTICE = "Research software, not a medical device"
"""Stands under every picture and in every result.json."""


def summarise(result: Segmentation, series: Sequence[Segmentation] = ()) -> dict[str, Any]:
    """Return the content of result.json. A number that is not defined, such as the agreement of one sample, is None.

    series: of a result of several slices, all of them, this one among them.
    """
    source, field, count = result.source, result.placement.field, result.samples
    origin = source.dicom
    agreement = [rounded(float(value), 6) for value in np.atleast_1d(result.mean_pairwise_iou)]
    areas = result.areas.reshape(count, -1).T.tolist()
    consensus = np.count_nonzero(result.consensus, axis=(-2, -1)).reshape(-1).tolist()
    return {
        "result_version": RESULT_VERSION,
        "notice": f"{NOTICE}.",
        "bundle": {"name": result.provenance.bundle, "sha256": result.provenance.bundle_sha256},
        "versions": result.provenance.versions,
        "engine": engine_entry(result.provenance),
        "input": {
            "kind": source.kind,
            "sha256": source.sha256 or hashlib.sha256(source.pixels.tobytes()).hexdigest(),
            "frame": origin.frame if origin is not None and origin.frames > 1 else None,
            "slice": None if source.volume is None else source.volume.stored_index,
            "slices_sha256": [each.source.sha256 for each in series] or None,
            "height": result.placement.image_height,
            "width": result.placement.image_width,
            "spacing_mm": source.spacing_mm,
        },
        "field": dataclasses.asdict(field),
        "sampling": {
            "samples": count,
            "settled": result.settled,
            "standard_error": rounded(result.standard_error, 6),
            "seed": int(result.request.seed),  # NumPy's integers and floats are not JSON's
            "sampler": result.sampler,
            "steps": result.steps,
            "threshold": float(result.request.threshold),
        },
        "classes": [
            {"name": name, "mean_pairwise_iou": iou, "consensus_area_px": area, "areas_px": each}
            for name, iou, area, each in zip(result.classes, agreement, consensus, areas, strict=True)
        ],
        "timings_ms": {stage: rounded(value) for stage, value in result.timings_ms.items()},
        "warnings": [*source_warnings([each.source for each in series] or [source]), *result.warnings],
    }


def engine_entry(provenance: Provenance) -> dict[str, Any]:
    """Return what ran the networks, as result.json and the audit line say it."""
    return dataclasses.asdict(provenance.backend)


def source_warnings(images: Sequence[SourceImage]) -> list[str]:
    """Return what was done to the pixels of some images, each sentence once."""
    return list(dict.fromkeys(warning for image in images for warning in image.warnings))


def rounded(value: float, digits: int = 3) -> float | None:
    """Return a number as JSON takes it: rounded, None where it is not finite."""
    return round(value, digits) if math.isfinite(value) else None
