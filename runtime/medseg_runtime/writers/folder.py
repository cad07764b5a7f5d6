"""A result as a folder of files, written whole or not at all.

    one class                        several classes
    masks/00.png ...  0 and 255      masks/<class>/00.png ...
    consensus.png     0 and 255      consensus/<class>.png
    confidence.png    0 to 255       confidence/<class>.png
    confidence.npy    (H, W)         (classes, H, W) float32 in [0, 1]
    overlay.png, samples.png, result.json
    representatives.png           if asked for; result.json says which samples, and their shares
    report.html                   if asked for
    dicom/*.dcm, nifti/*.nii.gz   if asked for

Everything is made in memory, written to a hidden folder beside the result, flushed to disk and renamed. Apart from `dicom/`, no
file holds a path or anything of a DICOM header that could identify a patient. `dicom/` is for the user and the group, whatever the
umask gives others.
"""

from __future__ import annotations

import hashlib
import io
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg_runtime.figures.overlay import render_overlay, render_representatives, render_samples
from medseg_runtime.figures.viewport import Canvas
from medseg_runtime.files.names import folder_names
from medseg_runtime.files.publish import FolderKind, published
from medseg_runtime.readers.source import SourceImage
from medseg_runtime.result.limits import check_limits
from medseg_runtime.result.measure import measure
from medseg_runtime.result.measurement_record import measurement_record
from medseg_runtime.result.measurements import Measurements
from medseg_runtime.result.output_request import NOTHING_MORE, OutputRequest
from medseg_runtime.result.provenance import Run
from medseg_runtime.result.representatives import FEW, Representatives
from medseg_runtime.result.segmentation import Segmentation, common_representatives
from medseg_runtime.result.summary import rounded, summarise
from medseg_runtime.writers.png import png

RECORD, REPORT = "result.json", "report.html"
DICOM_FOLDER, DICOM_FOLDER_MODE, DICOM_FILE_MODE = Path("dicom"), 0o750, 0o640
"""DICOM objects name the patient: nobody but the user and the group may read them. The umask may take more."""
RESULT = FolderKind("result", RECORD, frozenset({
    "masks", "consensus", "confidence", "consensus.png", "confidence.png", "confidence.npy",
    "overlay.png", "samples.png", "representatives.png", "dicom", "nifti", REPORT, RECORD,
    "overlay.mp4", "overlay.webm", "frames.csv", "SHA256SUMS",  # of a clip
}))  # fmt: skip


def check_sources(images: Sequence[SourceImage], asked: OutputRequest) -> tuple[SourceImage, ...]:
    """Check, before anything is computed, that `write_result` can write what is asked of these images.

    images: one, or neighbouring slices of a series in their order. Return them, with a warning for each element of a DICOM header
    that the DICOM objects will leave out.

    Raises:
        ParameterError, OutputError: as `write_result`.
    """
    check_limits(asked.limits, images)
    if asked.rtstruct:
        from medseg_runtime.writers.dicom import rtstruct  # pydicom is slow to import

        rtstruct.check_sources(images)
    if asked.nifti:
        from medseg_runtime.writers import nifti

        nifti.check_sources(images)
    if not asked.segmentations:
        return tuple(images)
    from medseg_runtime.writers.dicom import seg

    return seg.check_sources(images)


def write_result(
    out: Path,
    results: Sequence[Segmentation],
    asked: OutputRequest = NOTHING_MORE,
    *,
    index: int = 0,
    force: bool = False,
    measurements: Sequence[Measurements] | None = None,
    tracking_uid: str | None = None,
    run: Run | None = None,
    announce: Callable[[dict[str, str]], None] | None = None,
) -> dict[str, str]:
    """Write a result folder and return the SHA-256 of each file in it. Missing parent folders are made.

    out: the folder; it must not exist, unless it is empty.
    results: one, or those of neighbouring slices of a series in their order. `index`: the one that the PNG files show.
    asked: what else to write.
    force: replace an older result; a folder that holds anything else is never touched.
    measurements: of these results together, if they are at hand.
    tracking_uid: of the finding that an SR points at, if one does; DICOM objects carry it on.
    run: identifies the run in result.json; by default a new one.
    announce: is called with the SHA-256 of each file before the folder appears.

    Raises:
        OutputError: it exists, or cannot be written; then nothing has changed on disk.
        ParameterError: the masks were not kept, DICOM or NIfTI cannot be written of this source, or a limit is of what it does not show.
    """
    run = Run() if run is None else run
    check_limits(asked.limits, [each.source for each in results])
    measurements = measure(results) if measurements is None else measurements
    files = _contents(results, index, asked, measurements, tracking_uid, run)
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    with published(out, RESULT, force=force) as folder:
        _write(folder, files)
        if announce is not None:
            announce(hashes)
    return hashes


def _contents(
    results: Sequence[Segmentation],
    index: int,
    asked: OutputRequest,
    measurements: Sequence[Measurements],
    tracking_uid: str | None,
    run: Run,
) -> dict[str, bytes]:
    """Return the content of each file by its name, result.json last."""
    result = results[index]
    record = _record(results, index, asked, measurements, run)
    start = time.perf_counter()
    chosen = None
    if asked.representatives is not None or asked.segmentations or asked.html:
        chosen = common_representatives(results, FEW if asked.representatives is None else asked.representatives)
        record["representatives"] = chosen.record()
    drawn = None if asked.representatives is None else chosen
    pictures = _pictures(result, drawn)
    record["timings_ms"]["draw"] = rounded(1e3 * (time.perf_counter() - start))
    files = dict(_maps(result)) | {name: png(picture) for name, picture in pictures.items()}
    if asked.segmentations:
        from medseg_runtime.writers.dicom.seg import dicom_objects  # pydicom is slow to import

        reported = measurements if asked.sr else None
        objects = dicom_objects(
            results,
            pictures["overlay.png"],
            index=index,
            chosen=chosen,
            measurements=reported,
            tracking_uid=tracking_uid,
        )
        files |= {f"dicom/{name}": content for name, content in objects.files.items()}
        record["warnings"] = list(dict.fromkeys([*record["warnings"], *objects.warnings]))
    if asked.rtstruct:
        from medseg_runtime.writers.dicom.rtstruct import structure_set

        files["dicom/structures.dcm"] = structure_set(results, drawn)
    if asked.nifti:
        from medseg_runtime.writers.nifti import nifti_files

        files |= {f"nifti/{name}": content for name, content in nifti_files(results).items()}
    if asked.html and chosen is not None:
        from medseg_runtime.writers.html.report import report

        files[REPORT] = report(results, index, record, chosen, measurements, asked.limits)
    record["outputs"] = {name: hashlib.sha256(files[name]).hexdigest() for name in sorted(files)}
    return files | {RECORD: (json.dumps(record, indent=2, allow_nan=False) + "\n").encode()}


def _record(
    results: Sequence[Segmentation], index: int, asked: OutputRequest, measurements: Sequence[Measurements], run: Run
) -> dict[str, Any]:
    """Return the content of result.json, as far as it is known before the files are made."""
    record: dict[str, Any] = {"run": {"id": run.id, "time_utc": run.time_utc}}
    record |= summarise(results[index], results if len(results) > 1 else ())
    record["measurements"] = measurement_record(measurements, asked.limits)
    record["warnings"] += [warning for each in measurements for warning in each.warnings]
    return record


def _pictures(result: Segmentation, drawn: Representatives | None) -> dict[str, Canvas]:
    pixels = result.source.pixels
    pictures = {"overlay.png": render_overlay(pixels, result), "samples.png": render_samples(pixels, result)}
    if drawn is not None:
        pictures["representatives.png"] = render_representatives(pixels, result, drawn)
    return pictures


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files, name => content; a name may begin with folders."""
    for parent in sorted({Path(name).parent for name in files}):
        (folder / parent).mkdir(DICOM_FOLDER_MODE if parent == DICOM_FOLDER else 0o777, parents=True, exist_ok=True)
    for name, content in files.items():
        if Path(name).parent == DICOM_FOLDER:
            (folder / name).touch(DICOM_FILE_MODE)
        (folder / name).write_bytes(content)


def _maps(result: Segmentation) -> Iterator[tuple[str, bytes]]:
    """Yield the files of masks, consensus and confidence: name and content."""
    shades = np.rint(255.0 * result.confidence).astype(np.uint8)
    digits = max(2, len(str(result.samples - 1)))
    if result.masks.ndim == 3:
        layers = [("", result.masks, result.consensus, shades)]
    else:
        layers = [
            (f"/{name}", result.masks[:, index], result.consensus[index], shades[index])
            for index, name in enumerate(folder_names(result.classes))
        ]
    for name, masks, consensus, shade in layers:
        for k, mask in enumerate(masks):
            yield f"masks{name}/{k:0{digits}d}.png", _grey(mask)
        yield f"consensus{name}.png", _grey(consensus)
        yield f"confidence{name}.png", png(shade)
    content = io.BytesIO()
    np.save(content, result.confidence, allow_pickle=False)
    yield "confidence.npy", content.getvalue()


def _grey(mask: npt.NDArray[np.bool_]) -> bytes:
    return png(np.uint8(255) * mask)
