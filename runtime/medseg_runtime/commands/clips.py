"""A clip's way through medseg-infer: frame after frame, into one result folder.

job => header of the clip => frames => segment, side by side => write => result folder, and a line for stdout
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Any

from medseg_runtime.commands.audit import Audit
from medseg_runtime.commands.inputs import Job
from medseg_runtime.commands.pipeline import Settings
from medseg_runtime.errors import ParameterError
from medseg_runtime.files.names import printable
from medseg_runtime.inference.segmenter import Segmenter
from medseg_runtime.readers.clip import ALL, read_clip
from medseg_runtime.result.request import SampleRequest
from medseg_runtime.writers.clip_folder import write_clip
from medseg_runtime.writers.folder import RECORD, REPORT
from medseg_runtime.writers.video import check_encoder

Progress = Callable[[Iterator[Any], int | None], Iterator[Any]]
"""Passes items on; the number is how many there will be, if that is known."""


def run_clip(job: Job, segmenter: Segmenter, settings: Settings, audit: Audit, progress: Progress) -> dict[str, Any]:
    """Segment the frames of a clip and write its folder; return the content of result.json.

    Raises:
        MedsegError: the clip cannot be read, an option does not go with a clip, or the folder cannot be written. Then nothing is written.
    """
    with audit.image(job.image) as entry:
        request = _request(settings)
        check_encoder()
        clip = read_clip(job.image, settings.frames or ALL)
        entry.input_sha256 = clip.sha256
        with closing(segmenter.segment_all(clip, request)) as outcomes:
            results = (outcome.result() for outcome in progress(outcomes, clip.count))
            announce = partial(audit.announce, entry)
            entry.outputs = write_clip(
                job.out,
                clip,
                results,
                force=settings.force,
                html=settings.outputs.html,
                run=entry.run,
                announce=announce,
            )
    record: dict[str, Any] = json.loads((job.out / RECORD).read_text(encoding="utf-8"))
    return record


def _request(settings: Settings) -> SampleRequest:
    """Return what is asked for each frame; refuse what does not go with a clip."""
    location, request, outputs = settings.location, settings.request, settings.outputs
    for option, given in (
        ("--dicom-seg", outputs.dicom_seg),
        ("--rtstruct", outputs.rtstruct),
        ("--sr", outputs.sr),
        ("--nifti", outputs.nifti),
        ("--limit", bool(outputs.limits)),
        ("--representatives", outputs.representatives is not None),
        ("--point-from", location.names_images),
        ("--frame", location.frame is not None),
        ("--slices", location.slices > 1),
        ("--center-mm", location.center_mm is not None),
        ("--center X,Y,Z", location.center is not None and len(location.center) == 3),
    ):
        if given:
            raise ParameterError(
                f"{option} does not go with a clip",
                f"Leave {option} out; --center X,Y and --roi hold for all frames, and --frames A-B chooses some.",
            )
    if request.samples == "auto":
        raise ParameterError(
            "--samples auto may draw another number for each frame, and one table holds them all",
            "Give a number of --samples.",
        )
    point = location.center
    return request if point is None else replace(request, center=(point[0], point[1]))


def clip_line(job: Job, record: dict[str, Any], *, as_json: bool) -> str:
    """Return the line for stdout: the content of result.json, or the key figures and where to look."""
    if as_json:
        return json.dumps(record)
    count, samples = record["frames"]["count"], record["sampling"]["samples"]
    figures = [
        f"{count} frames",
        f"{samples} samples each",
        *(
            f"{each['name']} in {each['frames_marked']} of {count}, at most {each['largest_consensus_area_px']} px"
            for each in record["classes"]
        ),
    ]
    shown = next(name for name in record["outputs"] if name.startswith("overlay."))
    shown = REPORT if REPORT in record["outputs"] else shown
    return f"{printable(job.image.name)}: {', '.join(figures)} -> {printable(job.out / shown)}"
