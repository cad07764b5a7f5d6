"""One image's way through medseg-infer. Several images go side by side.

job => read => target (one image, or slices) => segment => results => write => result folder, and a line for stdout
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from medseg_runtime.commands.audit import Audit, Entry
from medseg_runtime.commands.inputs import Job
from medseg_runtime.figures.overlay import agreement_figures, key_figures
from medseg_runtime.files.names import printable
from medseg_runtime.inference.segmenter import Segmenter
from medseg_runtime.inference.workers import Outcome, Turns, run_workers
from medseg_runtime.machine.memory import check_memory
from medseg_runtime.readers.clip import Frames
from medseg_runtime.readers.target import Location, Target, read_target
from medseg_runtime.result.limits import Limit
from medseg_runtime.result.measure import measure
from medseg_runtime.result.measurement_record import measurement_figures
from medseg_runtime.result.measurements import Measurements
from medseg_runtime.result.output_request import OutputRequest
from medseg_runtime.result.request import SampleRequest
from medseg_runtime.result.segmentation import Segmentation
from medseg_runtime.result.summary import source_warnings
from medseg_runtime.writers.folder import RECORD, REPORT, check_sources, write_result


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """What is asked for every image."""

    request: SampleRequest
    """Its center is set for each image, from `location`."""
    location: Location
    frames: Frames | None
    """Which frames of a clip to take; None for an image, and for all of a video."""
    outputs: OutputRequest
    force: bool


@dataclass(frozen=True, slots=True)
class Done:
    """A target and its segmentations, one per image."""

    target: Target
    results: list[Segmentation]
    measurements: tuple[Measurements, ...]
    """Of all results together."""

    @property
    def result(self) -> Segmentation:
        """The one that the PNG files show."""
        return self.results[self.target.index]


def run_jobs(
    jobs: Sequence[Job], segmenter: Segmenter, settings: Settings, audit: Audit
) -> Generator[Outcome[tuple[int, Job], Done], None, None]:
    """Read, segment and write images, several at once. Yield an outcome for each, in order, as in the audit file.

    Images in progress are finished and get their audit lines, whatever ends the rest. Only a second Ctrl-C does not wait.
    """
    turns = Turns()
    count = min(segmenter.workers, len(jobs))
    segmenters = [segmenter, *(segmenter.clone() for _ in range(count - 1))]

    def worker(each: Segmenter) -> Callable[[tuple[int, Job]], Done]:
        return lambda numbered: _run_job(*numbered, each, settings, audit, turns, images_at_once=count)

    return run_workers(list(enumerate(jobs)), [worker(each) for each in segmenters], ahead=2 * count)


def _run_job(
    number: int, job: Job, segmenter: Segmenter, settings: Settings, audit: Audit, turns: Turns, *, images_at_once: int
) -> Done:
    with turns.ended(number), audit.image(job.image) as entry, turns.awaited(number):
        target = _read(job, settings, entry, segmenter, images_at_once)
        request = replace(settings.request, center=target.center)
        results = [segmenter.segment(image, request, images_at_once=images_at_once) for image in target.images]
        measurements = measure(results)
        entry.provenance = results[target.index].provenance
        entry.outputs = write_result(
            job.out,
            results,
            settings.outputs,
            index=target.index,
            force=settings.force,
            measurements=measurements,
            tracking_uid=settings.location.tracking_uid,
            run=entry.run,
            announce=partial(audit.announce, entry),
        )
    return Done(target, results, measurements)


def _read(job: Job, settings: Settings, entry: Entry, segmenter: Segmenter, images_at_once: int) -> Target:
    """Read the images of a job, and check that the files asked for can be written."""
    target = read_target(job.image, settings.location)
    image = target.images[target.index]
    entry.input_sha256 = image.sha256
    if len(target.images) > 1:  # the masks of all slices are kept until the files are written
        height, width = image.pixels.shape[:2]
        mask_bytes = len(target.images) * height * width * len(segmenter.manifest.classes)
        check_memory(settings.request.limit, mask_bytes, at_once=images_at_once)
    return replace(target, images=check_sources(target.images, settings.outputs))


def warnings_of(done: Done) -> Iterator[str]:
    """Yield what a reader of the result should know."""
    yield from source_warnings(done.target.images)
    yield from done.result.warnings
    for each in done.measurements:
        yield from each.warnings


def line_for(job: Job, done: Done, limits: Sequence[Limit], *, as_json: bool) -> str:
    """Return the line for stdout: the content of result.json, or the key figures and where to look."""
    if as_json:
        return json.dumps(json.loads((job.out / RECORD).read_text(encoding="utf-8")))
    in_pixels = done.measurements[0].area.unit == "px"
    drawn = key_figures(done.result) if in_pixels else agreement_figures(done.result)
    figures = ", ".join([*drawn, *measurement_figures(done.measurements, limits)])
    shown = REPORT if (job.out / REPORT).exists() else "overlay.png"
    return f"{printable(job.image.name)}: {figures} -> {printable(job.out / shown)}"
