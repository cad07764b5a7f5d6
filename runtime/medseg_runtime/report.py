"""A result as a folder of files, written whole or not at all.

    one class                        several classes
    masks/00.png ...  0 and 255      masks/<class>/00.png ...
    consensus.png     0 and 255      consensus/<class>.png
    confidence.png    0 to 255       confidence/<class>.png
    confidence.npy    (H, W)         (classes, H, W) float32 in [0, 1]
    overlay.png, samples.png, result.json
    representatives.png           where asked for; result.json says which samples, and their shares
    dicom/*.dcm, nifti/*.nii.gz   where asked for

Everything is written to a hidden folder beside the result, flushed to disk and renamed. No file holds a path, or anything of
a DICOM header that could identify a patient.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from medseg_runtime.io.source import SourceImage
from medseg_runtime.overlay import NOTICE, draw_overlay, draw_representatives, draw_samples
from medseg_runtime.provenance import Run, engine, hashes, versions
from medseg_runtime.publish import FolderKind, check_output, published
from medseg_runtime.segmentation import Segmentation
from medseg_runtime.segmenter import Segmenter

RESULT_VERSION = 1
RECORD = "result.json"
COMPRESSION = 1
"""Of PNG files: a third larger than at Pillow's 6, and written in half the time, which is most of the writing."""
RESULT = FolderKind("result", RECORD, frozenset({
    "masks", "consensus", "confidence", "consensus.png", "confidence.png", "confidence.npy",
    "overlay.png", "samples.png", "representatives.png", "dicom", "nifti", RECORD,
}))  # fmt: skip


def write_results(
    out: Path,
    source: SourceImage,
    segmentation: Segmentation,
    segmenter: Segmenter,
    *,
    force: bool,
    representatives: int | None = None,
    run: Run | None = None,
    attach: Callable[[Image.Image], Mapping[str, bytes]] | None = None,
) -> None:
    """Write a result folder; its parents are made.

    out: the folder, which must not exist unless it is empty.
    force: replace an older result there; a folder that holds anything else is never touched.
    representatives: choose so many samples that stand for all, and draw them.
    run: takes the hashes of what was written.
    attach: makes further files for the folder, name => content, from the finished overlay.

    Raises:
        OutputError: it exists, or cannot be written; then nothing has changed on the disk.
    """
    check_output(out, RESULT, force=force)
    run = Run() if run is None else run
    record = {"run": {"id": run.id, "time_utc": run.time_utc}} | result_record(source, segmentation, segmenter)
    start = time.perf_counter()
    overlay, samples = draw_overlay(source.pixels, segmentation), draw_samples(source.pixels, segmentation)
    pictures = {"overlay.png": overlay, "samples.png": samples}
    if representatives is not None:
        numbers, weights = segmentation.representatives(representatives)
        pictures["representatives.png"] = draw_representatives(source.pixels, segmentation, numbers, weights)
        record["representatives"] = [
            {"sample": int(k), "weight": _rounded(float(weight), 6)} for k, weight in zip(numbers, weights, strict=True)
        ]
    record["timings_ms"]["draw"] = _rounded(1e3 * (time.perf_counter() - start))
    attachments = attach(overlay) if attach is not None else {}
    with published(out, RESULT, force=force) as folder:
        _write_maps(folder, segmentation)
        for name, picture in pictures.items():
            _save(folder / name, picture)
        for name, content in attachments.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(content)
        record["outputs"] = hashes(folder)
        text = json.dumps(record, indent=2, allow_nan=False) + "\n"
        (folder / RECORD).write_text(text, encoding="utf-8")
        outputs = hashes(folder)
    run.outputs = outputs


def result_record(source: SourceImage, segmentation: Segmentation, segmenter: Segmenter) -> dict[str, Any]:
    """Return the content of result.json; a number that is not defined, such as the agreement of one sample, is None."""
    field, count = segmentation.placement.field, segmentation.samples
    height, width = segmentation.placement.image_height, segmentation.placement.image_width
    agreement = [_rounded(float(value), 6) for value in np.atleast_1d(segmentation.mean_pairwise_iou)]
    areas = segmentation.areas.reshape(count, -1).T.tolist()
    consensus = np.count_nonzero(segmentation.consensus, axis=(-2, -1)).reshape(-1).tolist()
    return {
        "result_version": RESULT_VERSION,
        "notice": f"{NOTICE}.",
        "bundle": {"name": segmenter.manifest.name, "sha256": segmenter.bundle_sha256},
        "versions": versions(segmenter),
        "engine": engine(segmenter),
        "input": {
            "kind": source.kind,
            "sha256": source.sha256,
            "height": height,
            "width": width,
            "spacing_mm": source.spacing_mm,
        },
        "field": dataclasses.asdict(field),
        "sampling": {
            "samples": count,
            "settled": segmentation.settled,
            "standard_error": _rounded(segmentation.standard_error, 6),
            "seed": segmentation.seed,
            "sampler": segmentation.sampler,
            "steps": segmentation.steps,
            "threshold": segmentation.threshold,
        },
        "classes": [
            {"name": name, "mean_pairwise_iou": iou, "consensus_area_px": area, "areas_px": each}
            for name, iou, area, each in zip(segmentation.classes, agreement, consensus, areas, strict=True)
        ],
        "timings_ms": {stage: _rounded(value) for stage, value in segmentation.timings_ms.items()},
        "warnings": [*source.warnings, *segmentation.warnings],
    }


def _write_maps(folder: Path, segmentation: Segmentation) -> None:
    confidence = np.rint(255.0 * segmentation.confidence).astype(np.uint8)
    digits = max(2, len(str(segmentation.samples - 1)))
    if segmentation.masks.ndim == 3:
        layers = [("", "", segmentation.masks, segmentation.consensus, confidence)]
    else:
        layers = [
            (name, f"/{name}", segmentation.masks[:, index], segmentation.consensus[index], confidence[index])
            for index, name in enumerate(folder_names(segmentation.classes))
        ]
    for name, suffix, masks, consensus, shade in layers:
        (folder / "masks" / name).mkdir(parents=True)
        for k, mask in enumerate(masks):
            _save(folder / "masks" / name / f"{k:0{digits}d}.png", _grey(mask))
        for kind, values in (("consensus", consensus), ("confidence", shade)):
            path = folder / f"{kind}{suffix}.png"
            path.parent.mkdir(exist_ok=True)
            _save(path, _grey(values))
    np.save(folder / "confidence.npy", segmentation.confidence, allow_pickle=False)


def folder_names(classes: tuple[str, ...]) -> list[str]:
    """Return a safe and distinct file name for each class."""
    safe = [re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-") for name in classes]
    distinct = len({name.lower() for name in safe}) == len(safe) and all(safe)
    return safe if distinct else [f"{index}-{name}".rstrip("-") for index, name in enumerate(safe)]


def _grey(values: npt.NDArray[np.bool_ | np.uint8]) -> Image.Image:
    return Image.fromarray(np.where(values, np.uint8(255), np.uint8(0)) if values.dtype == np.bool_ else values)


def _save(path: Path, picture: Image.Image) -> None:
    picture.save(path, "PNG", compress_level=COMPRESSION)


def _rounded(value: float, digits: int = 3) -> float | None:
    return round(value, digits) if math.isfinite(value) else None
