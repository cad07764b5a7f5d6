"""A result as a folder of files, written whole or not at all.

    one class                        several classes
    masks/00.png ...  0 and 255      masks/<class>/00.png ...
    consensus.png     0 and 255      consensus/<class>.png
    confidence.png    0 to 255       confidence/<class>.png
    confidence.npy    (H, W)         (classes, H, W) float32 in [0, 1]
    overlay.png, samples.png, result.json
    representatives.png           where asked for; result.json says which samples, and their shares
    dicom/*.dcm, nifti/*.nii.gz   where asked for

Everything is made in memory, written to a hidden folder beside the result, flushed to disk and renamed. No file holds a path,
or anything of a DICOM header that could identify a patient.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg_runtime.commands.audit import Run, engine, versions
from medseg_runtime.figures.overlay import NOTICE, draw_overlay, draw_representatives, draw_samples
from medseg_runtime.figures.viewport import Canvas
from medseg_runtime.files.names import folder_names
from medseg_runtime.files.publish import FolderKind, published
from medseg_runtime.inference.segmenter import Segmenter
from medseg_runtime.readers.source import SourceImage
from medseg_runtime.result.segmentation import Segmentation
from medseg_runtime.writers.png import png

RESULT_VERSION = 1
RECORD = "result.json"
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
    slices: Sequence[SourceImage] = (),
    representatives: int | None = None,
    run: Run | None = None,
    attach: Callable[[Canvas], Mapping[str, bytes]] | None = None,
) -> None:
    """Write a result folder; its parents are made.

    out: the folder, which must not exist unless it is empty.
    force: replace an older result there; a folder that holds anything else is never touched.
    slices: of a series, all that went through the network, the source among them.
    representatives: choose so many samples that stand for all, and draw them.
    run: takes the hashes of what was written.
    attach: makes further files for the folder, name => content, from the finished overlay.

    Raises:
        OutputError: it exists, or cannot be written; then nothing has changed on the disk.
        ParameterError: the masks were not kept, or there are fewer than `representatives`.
    """
    run = Run() if run is None else run
    record = {"run": {"id": run.id, "time_utc": run.time_utc}} | result_record(source, segmentation, segmenter, slices)
    start = time.perf_counter()
    pictures = _pictures(source, segmentation)
    if representatives is not None:
        numbers, weights = segmentation.representatives(representatives)
        pictures["representatives.png"] = draw_representatives(source.pixels, segmentation, numbers, weights)
        record["representatives"] = [
            {"sample": int(k), "weight": _rounded(float(weight), 6)} for k, weight in zip(numbers, weights, strict=True)
        ]
    record["timings_ms"]["draw"] = _rounded(1e3 * (time.perf_counter() - start))
    files = dict(_maps(segmentation)) | {name: png(picture) for name, picture in pictures.items()}
    files |= attach(pictures["overlay.png"]) if attach is not None else {}
    record["outputs"] = _hashes(files)
    files[RECORD] = (json.dumps(record, indent=2, allow_nan=False) + "\n").encode()
    with published(out, RESULT, force=force) as folder:
        _write(folder, files)
    run.outputs = record["outputs"] | _hashes({RECORD: files[RECORD]})


def _pictures(source: SourceImage, segmentation: Segmentation) -> dict[str, Canvas]:
    return {
        "overlay.png": draw_overlay(source.pixels, segmentation),
        "samples.png": draw_samples(source.pixels, segmentation),
    }


def _hashes(files: Mapping[str, bytes]) -> dict[str, str]:
    """Return the SHA-256 of each file, in the order of their names."""
    return {name: hashlib.sha256(files[name]).hexdigest() for name in sorted(files)}


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files, name => content; a name may begin with folders."""
    for parent in {Path(name).parent for name in files}:
        (folder / parent).mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def result_record(
    source: SourceImage, segmentation: Segmentation, segmenter: Segmenter, slices: Sequence[SourceImage] = ()
) -> dict[str, Any]:
    """Return the content of result.json; a number that is not defined, such as the agreement of one sample, is None."""
    frame = source.dicom.frame if source.dicom is not None and source.dicom.frames > 1 else None
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
            "frame": frame,
            "slices_sha256": [image.sha256 for image in slices] or None,
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
        "warnings": [*notes_of(slices or [source]), *segmentation.warnings],
    }


def notes_of(images: Sequence[SourceImage]) -> list[str]:
    """Return what was done to the pixels of some images, each sentence once."""
    return list(dict.fromkeys(note for image in images for note in image.warnings))


def _maps(segmentation: Segmentation) -> Iterator[tuple[str, bytes]]:
    """Yield the files of masks, consensus and confidence, name and content."""
    shades = np.rint(255.0 * segmentation.confidence).astype(np.uint8)
    digits = max(2, len(str(segmentation.samples - 1)))
    if segmentation.masks.ndim == 3:
        layers = [("", segmentation.masks, segmentation.consensus, shades)]
    else:
        layers = [
            (f"/{name}", segmentation.masks[:, index], segmentation.consensus[index], shades[index])
            for index, name in enumerate(folder_names(segmentation.classes))
        ]
    for name, masks, consensus, shade in layers:
        for k, mask in enumerate(masks):
            yield f"masks{name}/{k:0{digits}d}.png", _grey(mask)
        yield f"consensus{name}.png", _grey(consensus)
        yield f"confidence{name}.png", png(shade)
    content = io.BytesIO()
    np.save(content, segmentation.confidence, allow_pickle=False)
    yield "confidence.npy", content.getvalue()


def _grey(mask: npt.NDArray[np.bool_]) -> bytes:
    return png(np.uint8(255) * mask)


def _rounded(value: float, digits: int = 3) -> float | None:
    return round(value, digits) if math.isfinite(value) else None
