"""The way of one image through medseg-infer, in three stages that overlap for several images.

job --read--> pictures --segment--> segmentations --write--> result folder, and what there is to say about it
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

from medseg_runtime.imaging import Box
from medseg_runtime.io.aim import Aim, Target, take_aim
from medseg_runtime.jobs import Job
from medseg_runtime.overlay import key_figures
from medseg_runtime.pipeline import Outcome, pipeline
from medseg_runtime.provenance import Run
from medseg_runtime.publish import shown
from medseg_runtime.report import RECORD, folder_names, write_results
from medseg_runtime.request import Options, Samples
from medseg_runtime.segmentation import Segmentation
from medseg_runtime.segmenter import READ_AHEAD, Segmenter
from medseg_runtime.view import Canvas


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
    aim: Aim
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


@dataclass(slots=True)
class Task:
    """A job that has been begun."""

    job: Job
    input_sha256: str | None = None
    """Of the image, once it is read."""


@dataclass(frozen=True, slots=True)
class Done:
    """A target and its segmentations, one per picture, ready to be written."""

    target: Target
    results: list[Segmentation]


def segmented(
    jobs: Iterable[Job], segmenter: Segmenter, settings: Settings
) -> Generator[Outcome[Task, Done], None, None]:
    """Read and segment images, in order, while the caller writes those that are done."""
    return pipeline(
        (Task(job) for job in jobs),
        partial(_read, settings=settings),
        partial(_segment, segmenter=segmenter, settings=settings),
        ahead=READ_AHEAD,
    )


def _read(task: Task, settings: Settings) -> Target:
    """Read the pictures of a job, and check that the files asked for can be written of them."""
    target = take_aim(task.job.image, settings.aim)
    task.input_sha256 = target.images[target.index].sha256
    if settings.dicom_seg:
        from medseg_runtime import dicom_seg

        dicom_seg.check_sources(target.images)
    if settings.nifti:
        from medseg_runtime import nifti

        nifti.check_sources(target.images)
    return target


def _segment(target: Target, segmenter: Segmenter, settings: Settings) -> Done:
    options = settings.options(target.center)
    return Done(target, [segmenter(image, **options) for image in target.images])


def write(task: Task, done: Done, segmenter: Segmenter, settings: Settings, run: Run, *, force: bool) -> None:
    """Write the result folder of one image."""
    index, wanted = done.target.index, settings.representatives
    write_results(
        task.job.out,
        done.target.images[index],
        done.results[index],
        segmenter,
        force=force,
        # --samples auto may stop at fewer
        representatives=None if wanted is None else min(wanted, done.results[index].samples),
        run=run,
        attach=partial(_attachments, done, segmenter, settings),
    )


def _attachments(done: Done, segmenter: Segmenter, settings: Settings, overlay: Canvas) -> dict[str, bytes]:
    """Make the files that were asked for besides the pictures: name => content."""
    images, files = done.target.images, dict[str, bytes]()
    if settings.dicom_seg:
        from medseg_runtime import dicom_seg

        made = dicom_seg.dicom_objects(images, done.results, segmenter, overlay, pointed_at=done.target.index)
        files |= {f"dicom/{name}": content for name, content in made.items()}
    if settings.nifti:
        from medseg_runtime import nifti

        made = nifti.nifti_files(images, done.results, folder_names(segmenter.manifest.classes))
        files |= {f"nifti/{name}": content for name, content in made.items()}
    return files


def warnings(done: Done) -> Iterator[str]:
    """Yield what a reader of the result should know."""
    yield from done.target.images[done.target.index].warnings
    yield from done.results[done.target.index].warnings


def line(task: Task, done: Done, *, as_json: bool) -> str:
    """Return what stdout says of a written result: its record, or its key figures and where to look."""
    out = task.job.out
    if as_json:
        return json.dumps(json.loads((out / RECORD).read_text(encoding="utf-8")))
    figures = ", ".join(key_figures(done.results[done.target.index]))
    return f"{shown(task.job.image.name)}: {figures} -> {shown(out / 'overlay.png')}"
