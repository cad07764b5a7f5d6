"""All jobs of a command line: images side by side, then clips one after the other; a line for each, as soon as it is done."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TypeVar

from medseg_runtime.commands.audit import Audit
from medseg_runtime.commands.inputs import Job
from medseg_runtime.commands.pipeline import Settings, line_for, run_jobs, warnings_of
from medseg_runtime.commands.program import complain, say, silent_libraries, warn
from medseg_runtime.errors import ImageError, MedsegError
from medseg_runtime.files.names import printable
from medseg_runtime.inference.segmenter import Segmenter
from medseg_runtime.readers.clip import Frames
from medseg_runtime.readers.file_kind import head_of, is_video

Item = TypeVar("Item")


def run_batch(
    program: str, jobs: list[Job], segmenter: Segmenter, settings: Settings, log: Audit, *, as_json: bool
) -> int:
    """Segment all images, then all clips, print a line for each, and return how many failed."""
    clips = [job for job in jobs if _is_clip(job.image, settings.frames)]
    images = [job for job in jobs if job not in clips]
    failed = 0
    with silent_libraries():
        if images:
            failed += _run_images(program, images, segmenter, settings, log, as_json=as_json)
        for clip in clips:
            failed += _run_clip(program, clip, segmenter, settings, log, as_json=as_json)
    if settings.outputs.html and len(jobs) > 1 and failed < len(jobs):
        failed += _write_index(program, jobs[0].out.parent)
    if failed and len(jobs) > 1:
        complain(program, f"{failed} of {len(jobs)} images failed. The others are finished.")
    return failed


def _write_index(program: str, folder: Path) -> int:
    """Write the index of the reports; return how many failed."""
    from medseg_runtime.writers.html.index import write_index

    try:
        path = write_index(folder)
    except MedsegError as error:
        complain(program, str(error))
        return 1
    say(f"All reports -> {printable(path)}", err=True)
    return 0


def _is_clip(path: Path, frames: Frames | None) -> bool:
    """Tell whether a file is taken as a clip: a video is one, and any file if frames are asked for."""
    if frames is not None:
        return True
    try:
        return is_video(head_of(path))
    except ImageError:  # a folder, or reported when it is read
        return False


def _run_images(
    program: str, jobs: list[Job], segmenter: Segmenter, settings: Settings, log: Audit, *, as_json: bool
) -> int:
    failed = 0
    with closing(run_jobs(jobs, segmenter, settings, log)) as outcomes:
        for job in jobs if len(jobs) == 1 else _with_progress(jobs, len(jobs), "images"):
            name = printable(job.image.name)
            with _complaining(program, name) as failure:
                done = next(outcomes).result()
                for warning in warnings_of(done):
                    warn(program, f"{name}: {warning}")
                say(line_for(job, done, settings.outputs.limits, as_json=as_json))
            failed += len(failure)
    return failed


def _run_clip(program: str, job: Job, segmenter: Segmenter, settings: Settings, log: Audit, *, as_json: bool) -> int:
    from medseg_runtime.commands.clips import clip_line, run_clip  # images do without

    name = printable(job.image.name)
    with _complaining(program, name) as failure:
        record = run_clip(
            job, segmenter, settings, log, lambda frames, count: _with_progress(frames, count, f"frames of {name}")
        )
        for warning in record["warnings"]:
            warn(program, f"{name}: {warning}")
        say(clip_line(job, record, as_json=as_json))
    return len(failure)


@contextmanager
def _complaining(program: str, name: str) -> Iterator[list[Exception]]:
    """Print an error of one image inside the block, and keep it in the list that is given."""
    failure: list[Exception] = []
    try:
        yield failure
    except MemoryError as error:
        failure.append(error)
        complain(program, f"{name}: there is not enough memory. Use fewer --samples, or a crop of the image.")
    except MedsegError as error:
        failure.append(error)
        complain(program, f"{name}: {error}")


def _with_progress(items: Iterable[Item], count: int | None, what: str) -> Iterator[Item]:
    """Yield items, with a progress bar on a terminal's stderr. count: how many there are, if known."""
    if not sys.stderr.isatty():
        yield from items
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), redirect_stdout=sys.stdout.isatty()) as progress:
        yield from progress.track(items, total=count, description=what)
