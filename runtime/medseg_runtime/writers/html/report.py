"""A result as one HTML file that people open: no server, no request, nothing of a DICOM header, no path and no name.

results => slices (slices.py) and what they have in common => page (page.py), drawn by the scripts beside this file
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from medseg_runtime.figures.overlay import ZOOMED_TILE, view_of
from medseg_runtime.figures.photo import window_of
from medseg_runtime.result.limits import Limit
from medseg_runtime.result.measurements import Measurements
from medseg_runtime.result.representatives import Representatives
from medseg_runtime.result.segmentation import Segmentation
from medseg_runtime.writers.html.page import report_page
from medseg_runtime.writers.html.sizes import sizes
from medseg_runtime.writers.html.slices import BACKGROUND, SMALL_BACKGROUND, carried, step_of


def report(
    results: Sequence[Segmentation],
    index: int,
    record: Mapping[str, Any],
    chosen: Representatives,
    measurements: Sequence[Measurements],
    limits: Sequence[Limit] = (),
) -> bytes:
    """Return the report of a result as a page.

    results: one, or those of neighbouring slices of a series in their order. index: the one to show first.
    record: the content of result.json. chosen: the samples that represent all.
    measurements: of the results together. limits: to mark in their histograms.

    Raises:
        ParameterError: the masks were not kept.
    """
    result = results[index]
    home = view_of(result)
    window = window_of(result.source.pixels, home)
    several = len(results) > 1
    slices = [
        carried(
            each,
            window,
            home,
            label=f"{number} of {len(results)}" if several else "",
            background=SMALL_BACKGROUND if several else BACKGROUND,
        )
        for number, each in enumerate(results, start=1)
    ]
    totals = np.sum([each.areas.reshape(each.samples, -1).sum(axis=1) for each in results], axis=0)
    return report_page(
        title_of(result),
        common(result, record)
        | {
            "home": asdict(home),
            "near": asdict(view_of(result, *ZOOMED_TILE)),
            "note": reduced_note(step_of(result)),
            "sizes": totals.tolist(),
            "start": index,
            "slice": "Slice",
            "slices": slices,
            "measurements": sizes(measurements, limits),
            "representatives": [
                {"sample": int(k), "share": round(float(share), 6)}
                for k, share in zip(chosen.samples, chosen.shares, strict=True)
            ],
        },
    )


def title_of(result: Segmentation) -> str:
    """Return the title of a report."""
    names = ", ".join(result.classes)
    return f"{names[:1].upper()}{names[1:]}: {result.samples} plausible outlines"


def common(result: Segmentation, record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the slices of a report have in common. result: one of them. record: the content of result.json."""
    height, width = result.source.pixels.shape[:2]
    return {
        "title": title_of(result),
        "summary": _summary(record),
        "image": {"width": width, "height": height},
        "spacing": result.source.spacing_mm,
        "samples": result.samples,
        "classes": result.classes,
        "warnings": record["warnings"],
        "provenance": provenance_rows(record),
    }


def reduced_note(step: int) -> str:
    """Say how the picture differs from the image, where it does."""
    if step == 1:
        return ""
    return f"The image and its outlines are shown at 1/{step} of their size. The numbers are of the full size."


def _summary(record: Mapping[str, Any]) -> str:
    image = record["input"]
    parts = [image["kind"], f"{image['width']} × {image['height']} px"]
    if image["spacing_mm"]:
        row, column = image["spacing_mm"]
        parts.append(f"{column:.3g} × {row:.3g} mm per pixel")
    agreement = [each.get("mean_pairwise_iou") for each in record["classes"]]
    if None not in agreement:
        parts.append("mean pairwise IoU " + " / ".join(f"{value:.2f}" for value in agreement))
    return " · ".join(parts)


def provenance_rows(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what made a result, as names and values, from the content of result.json."""
    sampling, engine = record["sampling"], record["engine"]
    steps = "1 step" if sampling["steps"] == 1 else f"{sampling['steps']} steps"
    return [
        ("Model", record["bundle"]["name"]),
        ("SHA-256", record["bundle"]["sha256"]),
        ("Image", record["input"]["sha256"]),
        ("Sampling", f"{sampling['samples']} samples, {sampling['sampler']}, {steps}, seed {sampling['seed']}"),
        ("Threshold", f"{sampling['threshold']:g} of a sample's probability"),
        ("Engine", f"{engine['name']}, {engine['precision']}"),
        ("Versions", ", ".join(f"{name} {version}" for name, version in record["versions"].items())),
        ("Run", f"{record['run']['id']}, {record['run']['time_utc']}"),
    ]
