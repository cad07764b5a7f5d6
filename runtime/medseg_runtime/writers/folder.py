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
from medseg_runtime.files.names import folder_names
from medseg_runtime.files.publish import FolderKind, published
from medseg_runtime.result.limits import Limit, check_limits
from medseg_runtime.result.measure import measure
from medseg_runtime.result.measurement_record import measurement_record
from medseg_runtime.result.measurements import Measurements
from medseg_runtime.result.provenance import Run
from medseg_runtime.result.representatives import FEW, Choice, Representatives
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


def write_result(
    out: Path,
    results: Sequence[Segmentation],
    *,
    index: int = 0,
    force: bool = False,
    representatives: Choice | None = None,
    dicom_seg: bool = False,
    rtstruct: bool = False,
    sr: bool = False,
    nifti: bool = False,
    measurements: Sequence[Measurements] | None = None,
    limits: Sequence[Limit] = (),
    html: bool = False,
    run: Run | None = None,
    announce: Callable[[dict[str, str]], None] | None = None,
) -> dict[str, str]:
    """Write a result folder and return the SHA-256 of each file in it. Missing parent folders are made.

    out: the folder; it must not exist, unless it is empty.
    results: one, or those of neighbouring slices of a series in their order. `index`: the one that the PNG files show.
    force: replace an older result; a folder that holds anything else is never touched.
    representatives: choose at most this many samples that represent all, or "all", and render them.
    dicom_seg, rtstruct, nifti: also write DICOM segmentations, a DICOM structure set or NIfTI volumes of all slices.
    sr: also write a DICOM Structured Report with the measurements, and the segmentations, which it refers to.
    measurements: of these results together, if they are at hand. limits: result.json says which share of the samples is above each.
    html: also write one page that people open, of all slices.
    run: identifies the run in result.json; by default a new one.
    announce: is called with the SHA-256 of each file before the folder appears.

    Raises:
        OutputError: it exists, or cannot be written; then nothing has changed on disk.
        ParameterError: the masks were not kept, DICOM or NIfTI cannot be written of this source, or a limit is of what it does not show.
    """
    run = Run() if run is None else run
    check_limits(limits, [each.source for each in results])
    result, series = results[index], results if len(results) > 1 else ()
    record = {"run": {"id": run.id, "time_utc": run.time_utc}} | summarise(result, series)
    measurements = measure(results) if measurements is None else measurements
    record["measurements"] = measurement_record(measurements, limits)
    record["warnings"] += [warning for each in measurements for warning in each.warnings]
    start = time.perf_counter()
    pictures = {
        "overlay.png": render_overlay(result.source.pixels, result),
        "samples.png": render_samples(result.source.pixels, result),
    }
    chosen = None
    if representatives is not None or dicom_seg or sr or html:
        chosen = common_representatives(results, FEW if representatives is None else representatives)
        record["representatives"] = [
            {"sample": int(k), "weight": rounded(float(share), 6)}
            for k, share in zip(chosen.samples, chosen.shares, strict=True)
        ]
    if representatives is not None and chosen is not None:
        pictures["representatives.png"] = render_representatives(result.source.pixels, result, chosen)
    record["timings_ms"]["draw"] = rounded(1e3 * (time.perf_counter() - start))
    files = dict(_maps(result)) | {name: png(picture) for name, picture in pictures.items()}
    if dicom_seg or sr:
        from medseg_runtime.writers.dicom.seg import dicom_objects  # pydicom is slow to import

        objects = dicom_objects(
            results,
            pictures["overlay.png"],
            index=index,
            chosen=chosen,
            measurements=measurements if sr else None,
        )
        files |= {f"dicom/{name}": content for name, content in objects.files.items()}
        record["warnings"] = list(dict.fromkeys([*record["warnings"], *objects.warnings]))
    files |= _structures(results, None if representatives is None else chosen) if rtstruct else {}
    files |= _nifti_files(results) if nifti else {}
    if html and chosen is not None:
        files[REPORT] = _report(results, index, record, chosen, measurements, limits)
    record["outputs"] = hashes = _hashes(files)
    files[RECORD] = (json.dumps(record, indent=2, allow_nan=False) + "\n").encode()
    hashes = hashes | _hashes({RECORD: files[RECORD]})
    with published(out, RESULT, force=force) as folder:
        _write(folder, files)
        if announce is not None:
            announce(hashes)
    return hashes


def _structures(results: Sequence[Segmentation], chosen: Representatives | None) -> dict[str, bytes]:
    from medseg_runtime.writers.dicom.rtstruct import structure_set

    return {"dicom/structures.dcm": structure_set(results, chosen)}


def _nifti_files(results: Sequence[Segmentation]) -> dict[str, bytes]:
    from medseg_runtime.writers.nifti import nifti_files

    return {f"nifti/{name}": content for name, content in nifti_files(results).items()}


def _report(
    results: Sequence[Segmentation],
    index: int,
    record: Mapping[str, Any],
    chosen: Representatives,
    measurements: Sequence[Measurements],
    limits: Sequence[Limit],
) -> bytes:
    from medseg_runtime.writers.html.report import report

    return report(results, index, record, chosen, measurements, limits)


def _hashes(files: Mapping[str, bytes]) -> dict[str, str]:
    """Return the SHA-256 of each file, in the order of their names."""
    return {name: hashlib.sha256(files[name]).hexdigest() for name in sorted(files)}


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
