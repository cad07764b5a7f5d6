"""The way of one image through medseg-infer; several images go side by side.

job --read--> pictures --segment--> segmentations --write--> result folder, and what there is to say about it
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from medseg_runtime.commands.audit import Audit, Run
from medseg_runtime.commands.inputs import Job
from medseg_runtime.figures.overlay import key_figures
from medseg_runtime.figures.viewport import Canvas
from medseg_runtime.files.names import folder_names, shown
from medseg_runtime.inference.request import Options, Samples
from medseg_runtime.inference.segmenter import Segmenter
from medseg_runtime.inference.workers import Outcome, Turns, run_workers
from medseg_runtime.machine.memory import check_memory
from medseg_runtime.model.preprocess import Box
from medseg_runtime.readers.target import Location, Target, read_target
from medseg_runtime.result.segmentation import Segmentation
from medseg_runtime.writers.folder import RECORD, notes_of, write_results


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """What is asked of the model for every image."""

    samples: Samples
    max_samples: int
    steps: int | None
    sampler: str | None
    seed: int
    threshold: float
    region: Box | None
    location: Location
    representatives: int | None
    """How many samples to choose that stand for all, if any."""
    dicom_seg: bool
    nifti: bool

    def options(self, center: tuple[float, float] | None = None) -> Options:
        """Return the arguments of the segmenter; center: of one image."""
        return {
            "samples": self.samples,
            "max_samples": self.max_samples,
            "steps": self.steps,
            "sampler": self.sampler,
            "seed": self.seed,
            "threshold": self.threshold,
            "region": self.region,
            "center": center,
        }


@dataclass(frozen=True, slots=True)
class Done:
    """A target and its segmentations, one per picture."""

    target: Target
    results: list[Segmentation]


def finished(
    jobs: Sequence[Job], segmenter: Segmenter, settings: Settings, audit: Audit, *, force: bool
) -> Generator[Outcome[tuple[int, Job], Done], None, None]:
    """Read, segment and write images, several at once; yields what became of each, in order, as its line in the audit file is.

    Those that are begun are finished, and have their lines, whatever ends the rest; a second Ctrl-C does not wait for them.
    """
    turns = Turns()
    segmenter.images_at_once = min(segmenter.lanes, len(jobs))
    lanes = [segmenter, *(segmenter.clone() for _ in range(segmenter.images_at_once - 1))]

    def work(lane: Segmenter) -> Callable[[tuple[int, Job]], Done]:
        return lambda numbered: _finish(*numbered, lane, settings, audit, turns, force=force)

    return run_workers(list(enumerate(jobs)), [work(lane) for lane in lanes], ahead=2 * len(lanes))


def _finish(
    number: int, job: Job, segmenter: Segmenter, settings: Settings, audit: Audit, turns: Turns, *, force: bool
) -> Done:
    with turns.ended(number), audit.image(job.image) as run, turns.awaited(number):
        target = _read(job, settings, run, segmenter)
        options = settings.options(target.center)
        done = Done(target, [segmenter(image, **options) for image in target.images])
        write(job, done, segmenter, settings, run, force=force)
    return done


def _read(job: Job, settings: Settings, run: Run, segmenter: Segmenter) -> Target:
    """Read the pictures of a job, and check that the files asked for can be written of them."""
    target = read_target(job.image, settings.location)
    run.input_sha256 = target.images[target.index].sha256
    if len(target.images) > 1:  # all of them are kept until the files are written
        assert settings.samples != "auto"
        height, width = target.images[target.index].pixels.shape[:2]
        mask_bytes = len(target.images) * height * width * len(segmenter.manifest.classes)
        check_memory(settings.samples, mask_bytes, at_once=segmenter.images_at_once)
    if settings.dicom_seg:
        from medseg_runtime.writers.dicom import seg

        seg.check_sources(target.images)
    if settings.nifti:
        from medseg_runtime.writers import nifti

        nifti.check_sources(target.images)
    return target


def write(job: Job, done: Done, segmenter: Segmenter, settings: Settings, run: Run, *, force: bool) -> None:
    """Write the result folder of one image."""
    index, wanted = done.target.index, settings.representatives
    write_results(
        job.out,
        done.target.images[index],
        done.results[index],
        segmenter,
        force=force,
        slices=done.target.images if len(done.target.images) > 1 else (),
        # --samples auto may stop at fewer
        representatives=None if wanted is None else min(wanted, done.results[index].samples),
        run=run,
        attach=partial(_attachments, done, segmenter, settings),
    )


def _attachments(done: Done, segmenter: Segmenter, settings: Settings, overlay: Canvas) -> dict[str, bytes]:
    """Make the files that were asked for besides the pictures: name => content."""
    images, files = done.target.images, dict[str, bytes]()
    if settings.dicom_seg:
        from medseg_runtime.writers.dicom import seg

        made = seg.dicom_objects(images, done.results, segmenter, overlay, pointed_at=done.target.index)
        files |= {f"dicom/{name}": content for name, content in made.items()}
    if settings.nifti:
        from medseg_runtime.writers import nifti

        made = nifti.nifti_files(images, done.results, folder_names(segmenter.manifest.classes))
        files |= {f"nifti/{name}": content for name, content in made.items()}
    return files


def warnings(done: Done) -> Iterator[str]:
    """Yield what a reader of the result should know."""
    yield from notes_of(done.target.images)
    yield from done.results[done.target.index].warnings


def line(job: Job, done: Done, *, as_json: bool) -> str:
    """Return what stdout says of a written result: its record, or its key figures and where to look."""
    out = job.out
    if as_json:
        return json.dumps(json.loads((out / RECORD).read_text(encoding="utf-8")))
    figures = ", ".join(key_figures(done.results[done.target.index]))
    return f"{shown(job.image.name)}: {figures} -> {shown(out / 'overlay.png')}"
