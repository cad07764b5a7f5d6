"""The result of a clip as a folder of files, written frame after frame, whole or not at all.

    overlay.mp4                 outlines and confidence, frame by frame, with the times of the clip (overlay.webm without an H.264 encoder)
    consensus/000001.png ...    0 and 255, named by the number of the frame
    confidence/000001.png ...   0 to 255
    masks/000001.tif ...        one page of 1 bit per sample, in the order of the samples
    frames.csv                  a line per frame and class: time, areas, agreement
    SHA256SUMS                  of these files, as `sha256sum --check` reads it
    report.html                 if asked for
    result.json                 what the frames have in common

With several classes there is a folder for each in consensus, confidence and masks. Memory does not grow with the number of frames.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from medseg_runtime.errors import MedsegError
from medseg_runtime.figures.overlay import render_frame, with_class_axis
from medseg_runtime.files.names import folder_names
from medseg_runtime.files.publish import published
from medseg_runtime.readers.clip import Clip
from medseg_runtime.result.provenance import Run
from medseg_runtime.result.segmentation import Segmentation
from medseg_runtime.result.summary import rounded, summarise
from medseg_runtime.writers.folder import RECORD, REPORT, RESULT
from medseg_runtime.writers.png import png
from medseg_runtime.writers.video import VideoWriter

if TYPE_CHECKING:
    from medseg_runtime.writers.html.clip import ClipReport

SUMS = "SHA256SUMS"
DIGITS = 6


@dataclass(slots=True)
class _Totals:
    """What is known of the frames so far."""

    frames: int = 0
    record: dict[str, Any] = field(default_factory=dict)
    """Of the first frame."""
    first: int = 0
    last: int = 0
    last_s: float = 0.0
    marked: Counter[str] = field(default_factory=Counter)
    """Class -> frames whose consensus is not empty."""
    largest: Counter[str] = field(default_factory=Counter)
    """Class -> area of the largest consensus, in pixels."""
    warnings: Counter[str] = field(default_factory=Counter)

    def add(self, result: Segmentation) -> None:
        source = result.source
        if not self.frames:
            self.record, self.first = summarise(result), source.frame or 1
        self.frames, self.last, self.last_s = self.frames + 1, source.frame or 1, source.time_s or 0.0
        self.warnings.update({*source.warnings, *result.warnings})
        _, _, consensus = with_class_axis(result)
        for name, area in zip(result.classes, np.count_nonzero(consensus, axis=(1, 2)).tolist(), strict=True):
            self.marked[name] += area > 0
            self.largest[name] = max(self.largest[name], area)


def write_clip(
    out: Path,
    clip: Clip,
    results: Iterable[Segmentation],
    *,
    force: bool = False,
    html: bool = False,
    run: Run | None = None,
    announce: Callable[[dict[str, str]], None] | None = None,
) -> dict[str, str]:
    """Write the result folder of a clip and return the SHA-256 of the files directly in it.

    clip: what the results are of. results: of its frames in their order, of equal numbers of samples; taken one by one.
    force: replace an older result. html: also write one page that people open. run: identifies the run in result.json; by default a new one.
    announce: is called with the hashes that are returned before the folder appears.

    Raises:
        OutputError: the folder exists, or cannot be written; then nothing has changed on disk. So does any error of `results`.
        ParameterError: the masks were not kept, or PyAV cannot encode.
    """
    run = Run() if run is None else run
    totals, page = _Totals(), _page() if html else None
    with published(out, RESULT, force=force) as folder:
        video = VideoWriter(folder, "overlay", clip.rate)
        try:
            with (
                (folder / "frames.csv").open("w", newline="", encoding="utf-8") as table,
                (folder / SUMS).open("w", encoding="utf-8") as sums,
            ):
                for result in results:
                    totals.add(result)
                    _write_frame(folder, result, sums)
                    _write_rows(table, result, header=totals.frames == 1)
                    if page is not None:
                        page.add(result)
                    video.add(render_frame(result), result.source.time_s or 0.0)
        except BaseException:
            with suppress(MedsegError):  # the first error counts
                video.close()
            raise
        video.close()
        record = {"run": {"id": run.id, "time_utc": run.time_utc}} | _summary(totals, clip)
        last = [video.path.name, "frames.csv"]
        if page is not None:
            (folder / REPORT).write_bytes(page.page(record))
            last.append(REPORT)
        hashes = record["outputs"] = _with_sums(folder, last)
        content = (json.dumps(record, indent=2, allow_nan=False) + "\n").encode()
        (folder / RECORD).write_bytes(content)
        hashes = hashes | {RECORD: hashlib.sha256(content).hexdigest()}
        if announce is not None:
            announce(hashes)
    return hashes


def _page() -> ClipReport:
    from medseg_runtime.writers.html.clip import ClipReport

    return ClipReport()


def _write_frame(folder: Path, result: Segmentation, sums: IO[str]) -> None:
    masks, confidence, consensus = with_class_axis(result)
    names = folder_names(result.classes) if len(result.classes) > 1 else ["."]
    number = f"{result.source.frame or 1:0{DIGITS}d}"
    for index, name in enumerate(names):
        for path, content in (
            (Path("consensus", name, f"{number}.png"), png(np.uint8(255) * consensus[index])),
            (Path("confidence", name, f"{number}.png"), png(np.rint(255.0 * confidence[index]).astype(np.uint8))),
            (Path("masks", name, f"{number}.tif"), _pages(masks[:, index])),
        ):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
            sums.write(f"{hashlib.sha256(content).hexdigest()}  {path}\n")


def _pages(masks: npt.NDArray[np.bool_]) -> bytes:
    """Return a TIFF file with a page of 1 bit per mask, (N, H, W)."""
    first, *others = [Image.fromarray(mask) for mask in masks]
    content = io.BytesIO()
    first.save(content, "TIFF", save_all=True, append_images=others, compression="tiff_deflate")
    return content.getvalue()


def _write_rows(table: IO[str], result: Segmentation, *, header: bool) -> None:
    writer = csv.writer(table, lineterminator="\n")
    count = result.samples
    if header:
        columns = [f"area_px_{k:02d}" for k in range(count)]
        writer.writerow(
            ["frame", "time_s", "class", "consensus_area_px", "mean_pairwise_iou", "standard_error", *columns]
        )
    _, _, consensus = with_class_axis(result)
    agreement = np.atleast_1d(result.mean_pairwise_iou).tolist()
    for index, (name, areas) in enumerate(zip(result.classes, result.areas.reshape(count, -1).T.tolist(), strict=True)):
        source = result.source
        figures = rounded(agreement[index], 6), rounded(result.standard_error, 6)
        writer.writerow(
            [source.frame, rounded(source.time_s or 0.0, 6), name, np.count_nonzero(consensus[index]), *figures, *areas]
        )


def _with_sums(folder: Path, names: list[str]) -> dict[str, str]:
    """Add the last files to the list of hashes; return their hashes and that of the list."""
    hashes = {}
    with (folder / SUMS).open("a", encoding="utf-8") as sums:
        for name in names:
            with (folder / name).open("rb") as file:
                hashes[name] = hashlib.file_digest(file, "sha256").hexdigest()
            sums.write(f"{hashes[name]}  {name}\n")
    return hashes | {SUMS: hashlib.sha256((folder / SUMS).read_bytes()).hexdigest()}


def _summary(totals: _Totals, clip: Clip) -> dict[str, Any]:
    """Return the content of result.json: what the frames have in common, and sums over them."""
    record = totals.record
    for name in ("timings_ms", "warnings", "classes"):
        record.pop(name, None)
    for name in ("settled", "standard_error"):
        record.get("sampling", {}).pop(name, None)
    record["versions"]["av"] = version("av")
    record["input"] |= {"kind": clip.kind, "sha256": clip.sha256}
    record["input"].pop("slices_sha256", None)
    record["input"].pop("frame", None)
    record["frames"] = {
        "count": totals.frames,
        "first": totals.first,
        "last": totals.last,
        "last_time_s": rounded(totals.last_s, 6),
        "mean_rate_hz": rounded(clip.rate, 6),
    }
    record["classes"] = [
        {"name": name, "frames_marked": totals.marked[name], "largest_consensus_area_px": totals.largest[name]}
        for name in totals.marked
    ]
    total = totals.frames
    record["warnings"] = [
        *clip.warnings,
        *(text if count == total else f"{text} ({count} of {total} frames)" for text, count in totals.warnings.items()),
    ]
    return record
