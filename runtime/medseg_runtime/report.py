"""A result as a folder of files, written whole or not at all.

    one class                        several classes
    masks/00.png ...  0 and 255      masks/<class>/00.png ...
    consensus.png     0 and 255      consensus/<class>.png
    confidence.png    0 to 255       confidence/<class>.png
    confidence.npy    (H, W)         (classes, H, W) float32 in [0, 1]
    overlay.png, samples.png, result.json

Everything is written to a hidden folder beside the result, flushed to disk and renamed. No file holds a path, or anything of
a DICOM header that could identify a patient.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import platform
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL
from PIL import Image

import medseg_runtime
from medseg_runtime.errors import OutputError
from medseg_runtime.io.source import SourceImage
from medseg_runtime.overlay import NOTICE, draw_overlay, draw_samples
from medseg_runtime.segmenter import Segmentation, Segmenter

RESULT_VERSION = 1
PARTIAL, REPLACED = ".medseg-partial-", ".medseg-replaced-"
"""Prefixes of the hidden folders: of a result while it is written, and of an older one while the new one takes its place."""
STALE_SECONDS = 24 * 3600
"""A partial folder older than this was left by a run that was killed, and is swept by the next one."""
CONTENT = {
    "masks", "consensus", "confidence", "consensus.png", "confidence.png", "confidence.npy",
    "overlay.png", "samples.png", "result.json",
}  # fmt: skip


def write_results(
    out: Path, source: SourceImage, segmentation: Segmentation, segmenter: Segmenter, *, force: bool
) -> None:
    """Write a result folder; its parents are made.

    out: the folder, which must not exist unless it is empty.
    force: replace an older result there; a folder that holds anything else is never touched.

    Raises:
        OutputError: it exists, or cannot be written; then nothing has changed on the disk.
    """
    check_output(out, force=force)
    record = result_record(source, segmentation, segmenter)
    start = time.perf_counter()
    overlay, samples = draw_overlay(source.pixels, segmentation), draw_samples(source.pixels, segmentation)
    record["timings_ms"]["draw"] = _rounded(1e3 * (time.perf_counter() - start))
    with _published(out, force=force) as folder:
        _write_maps(folder, segmentation)
        _save(folder / "overlay.png", overlay)
        _save(folder / "samples.png", samples)
        text = json.dumps(record, indent=2, allow_nan=False) + "\n"
        _write(folder / "result.json", lambda path: path.write_text(text, encoding="utf-8"))


def result_record(source: SourceImage, segmentation: Segmentation, segmenter: Segmenter) -> dict[str, Any]:
    """Return the content of result.json; a number that is not defined, such as the agreement of one sample, is None."""
    field, count = segmentation.placement.field, len(segmentation.masks)
    height, width = segmentation.placement.image_height, segmentation.placement.image_width
    agreement = [_rounded(float(value), 6) for value in np.atleast_1d(segmentation.mean_pairwise_iou)]
    areas = segmentation.areas.reshape(count, -1).T.tolist()
    consensus = np.count_nonzero(segmentation.consensus, axis=(-2, -1)).reshape(-1).tolist()
    return {
        "result_version": RESULT_VERSION,
        "notice": f"{NOTICE}.",
        "bundle": {"name": segmenter.manifest.name, "sha256": segmenter.bundle_sha256},
        "versions": {
            "medseglatdiff": medseg_runtime.__version__,
            segmenter.backend.name: segmenter.backend.version,
            "numpy": np.__version__,
            "pillow": PIL.__version__,
            "python": platform.python_version(),
        },
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


def check_output(out: Path, *, force: bool) -> None:
    """Find out before anything is computed whether a result may be written there.

    Raises:
        OutputError: something else is there, or an older result and no `force`, or the folder round it is not writable.
    """
    where = shown(out)
    try:
        if out.is_symlink() or (out.exists() and not out.is_dir()):
            raise OutputError(f"{where} exists and is not a folder", "Choose another --out.")
        entries = {entry.name for entry in out.iterdir()} if out.is_dir() else set()
        if entries and not entries <= CONTENT:
            raise OutputError(
                f"{where} holds other files than a result, for example {shown(min(entries - CONTENT))}",
                "Choose another --out.",
            )
        if entries and not force:
            raise OutputError(f"{where} exists already", "Choose another --out, or replace it with --force.")
        parent = next(folder for folder in out.absolute().parents if folder.exists())
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(f"{where} cannot be written: {error.strerror}", "Choose another --out.") from error
    if not parent.is_dir():
        raise OutputError(f"{where} lies below a file, {shown(parent.name)}", "Choose another --out.")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise OutputError(f"{where} cannot be written: {shown(parent)} is read-only", "Choose another --out.")


@contextmanager
def _published(out: Path, *, force: bool) -> Iterator[Path]:
    """Give a hidden folder to write into, and make it `out` when all went well; otherwise leave no trace."""
    made: list[Path] = []
    partial = out.parent / f"{PARTIAL}{secrets.token_hex(8)}"
    try:
        for folder in reversed([folder for folder in out.absolute().parents if not folder.exists()]):
            folder.mkdir(exist_ok=True)
            made.append(folder)
        _sweep(out.parent)
        partial.mkdir()
        yield partial
        _sync_folders(partial)
        _swap(partial, out, force=force)
        _sync(out.parent)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        for folder in reversed(made):
            try:
                folder.rmdir()
            except OSError:
                break
        if isinstance(error, OSError) and not isinstance(error, OutputError):
            raise OutputError(
                f"{shown(out)} cannot be written: {error.strerror}", "Free some space, or choose another --out."
            ) from error
        raise


def _swap(partial: Path, out: Path, *, force: bool) -> None:
    """Rename the finished folder to `out`; an older result makes way, and comes back if that fails."""
    check_output(out, force=force)  # another run may have been faster
    if not (out.is_dir() and any(out.iterdir())):
        partial.rename(out)
        return
    replaced = out.parent / f"{REPLACED}{secrets.token_hex(8)}"
    out.rename(replaced)
    try:
        partial.rename(out)
    except BaseException:
        replaced.rename(out)
        raise
    # From here on it is rubbish, and is named so that a later run sweeps what a kill leaves of it.
    rubbish = replaced.rename(replaced.with_name(f"{PARTIAL}{secrets.token_hex(8)}"))
    shutil.rmtree(rubbish, ignore_errors=True)


def _sweep(parent: Path) -> None:
    """Remove what killed runs have left behind."""
    for folder in parent.glob(f"{PARTIAL}*"):
        if time.time() - folder.stat().st_mtime > STALE_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)


def _write_maps(folder: Path, segmentation: Segmentation) -> None:
    count = len(segmentation.masks)
    confidence = np.rint(255.0 * segmentation.confidence).astype(np.uint8)
    digits = max(2, len(str(count - 1)))
    if segmentation.masks.ndim == 3:
        layers = [("", "", segmentation.masks, segmentation.consensus, confidence)]
    else:
        layers = [
            (name, f"/{name}", segmentation.masks[:, index], segmentation.consensus[index], confidence[index])
            for index, name in enumerate(_folder_names(segmentation.classes))
        ]
    for name, suffix, masks, consensus, shade in layers:
        (folder / "masks" / name).mkdir(parents=True)
        for k, mask in enumerate(masks):
            _save(folder / "masks" / name / f"{k:0{digits}d}.png", _grey(mask))
        for kind, values in (("consensus", consensus), ("confidence", shade)):
            path = folder / f"{kind}{suffix}.png"
            path.parent.mkdir(exist_ok=True)
            _save(path, _grey(values))
    _write(folder / "confidence.npy", lambda path: np.save(path, segmentation.confidence, allow_pickle=False))


def _folder_names(classes: tuple[str, ...]) -> list[str]:
    """Return a safe and distinct file name for each class."""
    safe = [re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-") for name in classes]
    distinct = len({name.lower() for name in safe}) == len(safe) and all(safe)
    return safe if distinct else [f"{index}-{name}".rstrip("-") for index, name in enumerate(safe)]


def _grey(values: npt.NDArray[np.bool_ | np.uint8]) -> Image.Image:
    return Image.fromarray(np.where(values, np.uint8(255), np.uint8(0)) if values.dtype == np.bool_ else values)


def _save(path: Path, picture: Image.Image) -> None:
    _write(path, lambda to: picture.save(to, "PNG"))


def _write(path: Path, writer: Callable[[Path], object]) -> None:
    """Write a file and wait until the disk has it."""
    writer(path)
    _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folders(top: Path) -> None:
    for folder, _, _ in os.walk(top):
        _sync(Path(folder))


def _rounded(value: float, digits: int = 3) -> float | None:
    return round(value, digits) if math.isfinite(value) else None


def shown(path: Path | str) -> str:
    """Return a path as one line that any terminal can print."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in str(path))
