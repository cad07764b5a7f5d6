"""medseg-infer: images in, one folder of masks, maps and pictures each out.

    parse => jobs (image, folder), all folders checked => model loaded once => images side by side: read, segment, write (pipeline.py), one line each

Results go to stdout, everything else to stderr. Exit 1 where an image failed; the others are finished.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from medseg_runtime._version import __version__
from medseg_runtime.commands.inputs import Job, plan
from medseg_runtime.commands.program import complain, leave_after, libraries_muted, run_command
from medseg_runtime.errors import MedsegError, ParameterError

if TYPE_CHECKING:
    from medseg_runtime.commands.pipeline import Settings

PROGRAM = "medseg-infer"

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def program() -> NoReturn:
    """Be medseg-infer: a process that ends with the command."""
    leave_after(main)


def main() -> NoReturn:
    """Run the command."""
    run_command(app, PROGRAM, extras="cpu")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"{PROGRAM} {__version__}")
        raise typer.Exit


@app.command()
def infer(
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE", help="PNG, JPEG, TIFF or DICOM files, and folders of them.")
    ],
    samples: Annotated[
        str,
        typer.Option(help="How many plausible masks to draw; auto: until they agree on the confidence.", metavar="N"),
    ] = "16",
    max_samples: Annotated[
        int | None, typer.Option(help="The most that --samples auto draws, an even number. Default: 64.", metavar="N")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Network calls per sample. Default: the bundle's.")] = None,
    sampler: Annotated[
        str | None, typer.Option(help="ddim, ddpm, euler or dpmpp. Default: the bundle's.", metavar="NAME")
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same masks.")] = 0,
    bundle: Annotated[
        Path | None, typer.Option(help="Folder of a model. Default: the lung-nodule model that ships with this.")
    ] = None,
    backend: Annotated[
        str, typer.Option(help="auto: the fastest on this CPU; or onnxruntime, openvino.", metavar="NAME")
    ] = "auto",
    precision: Annotated[
        str, typer.Option(help="What the networks multiply in: auto, float32 or bfloat16.", metavar="NAME")
    ] = "auto",
    representatives: Annotated[
        int | None,
        typer.Option(help="Choose so many samples that stand for all, with their shares, and draw them.", metavar="K"),
    ] = None,
    threshold: Annotated[float, typer.Option(help="Of the probability, between 0 and 1.")] = 0.5,
    roi: Annotated[str | None, typer.Option(help="Where to look, in pixels of the image.", metavar="X,Y,W,H")] = None,
    center: Annotated[
        str | None,
        typer.Option(help="The point to look at, in pixels; of a series also the slice, from 0.", metavar="X,Y[,Z]"),
    ] = None,
    center_mm: Annotated[
        str | None, typer.Option(help="The point in the patient's coordinates (DICOM).", metavar="X,Y,Z")
    ] = None,
    frame: Annotated[int | None, typer.Option(help="Frame of a multi-frame DICOM file, from 1.", metavar="K")] = None,
    slices: Annotated[
        int, typer.Option(help="Of a series, with --dicom-seg or --nifti: how many slices round the point.")
    ] = 1,
    dicom_seg: Annotated[
        bool, typer.Option("--dicom-seg", help="Also write DICOM: masks and confidence as SEG, the overlay as SC.")
    ] = False,
    nifti: Annotated[bool, typer.Option("--nifti", help="Also write NIfTI.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the result; of several images, for one folder each. Default: results/IMAGE."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace older results.")] = False,
    audit: Annotated[
        Path | None, typer.Option(help="Append a line for each image to this file: what was run, and hashes.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print each result.json as one line.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Draw many plausible segmentations of a medical image, and where they agree.

    Research software, not a medical device.
    """
    del version  # its callback has dealt with it
    from medseg_runtime.backends.auto.select import UNFINISHED
    from medseg_runtime.backends.registry import BACKENDS
    from medseg_runtime.commands import arguments, pipeline
    from medseg_runtime.commands.audit import Audit
    from medseg_runtime.files.names import shown
    from medseg_runtime.files.publish import check_output
    from medseg_runtime.inference.segmenter import Segmenter
    from medseg_runtime.machine.threads import threads_for
    from medseg_runtime.result.stopping import MAX_SAMPLES
    from medseg_runtime.writers.folder import RESULT

    try:
        settings = pipeline.Settings(
            samples=arguments.samples_of(samples), max_samples=MAX_SAMPLES if max_samples is None else max_samples, steps=steps, sampler=sampler,
            seed=seed, threshold=threshold, region=None if roi is None else arguments.region_of(roi),
            location=arguments.location_of(center, center_mm, frame, slices), representatives=representatives,
            dicom_seg=dicom_seg, nifti=nifti,
        )  # fmt: skip
        _check_together(settings, max_samples)
        log = Audit(audit, dataclasses.asdict(settings))
        log.check()
    except MedsegError as error:
        _complain(str(error))
        raise typer.Exit(1) from error
    jobs: list[Job] = []
    try:
        jobs = plan(images, out, as_series=settings.location.needs_series)
        for job in jobs:
            check_output(job.out, RESULT, force=force)
        on_gpu = backend in BACKENDS and BACKENDS[backend].device == "gpu"
        threads = None if on_gpu else threads_for(len(jobs))
        segmenter = Segmenter.load(bundle, backend=backend, precision=precision, threads=threads)
        log.segmenter = segmenter
        if segmenter.backend.why == UNFINISHED:
            typer.echo(f"{PROGRAM}: warning: {segmenter.backend.name} draws: {UNFINISHED}", err=True)
        segmenter.check(**settings.options())
    except MedsegError as error:
        unread: list[Path | None] = [job.image for job in jobs]
        for image in unread or [None]:
            with suppress(MedsegError), log.image(image):
                raise
        _complain(str(error))
        raise typer.Exit(1) from error
    failed = 0
    with libraries_muted(), closing(pipeline.finished(jobs, segmenter, settings, log, force=force)) as outcomes:
        for job in _with_progress(jobs):
            name = shown(job.image.name)
            try:
                done = next(outcomes).result()
            except MemoryError:
                failed += 1
                _complain(f"{name}: the memory does not suffice. Use fewer --samples, or a crop of the image.")
            except MedsegError as error:
                failed += 1
                _complain(f"{name}: {error}")
            else:
                for warning in pipeline.warnings(done):
                    typer.echo(f"{PROGRAM}: warning: {name}: {warning}", err=True)
                typer.echo(pipeline.line(job, done, as_json=as_json))
    if failed and len(jobs) > 1:
        _complain(f"{failed} of {len(jobs)} images failed. The others are finished.")
    if failed:
        raise typer.Exit(1)


def _check_together(settings: Settings, max_samples: int | None) -> None:
    """Refuse options that do not go together.

    Raises:
        ParameterError: two of them do not.
    """
    auto, slices = settings.samples == "auto", settings.location.slices
    if slices > 1 and not (settings.dicom_seg or settings.nifti):
        raise ParameterError("PNG files hold one slice", "Add --dicom-seg or --nifti, or leave --slices out.")
    if slices > 1 and auto:
        raise ParameterError(
            "--samples auto may draw another number for each slice, and one file holds them all",
            "Give a number of --samples.",
        )
    most = settings.max_samples if settings.samples == "auto" else settings.samples
    if settings.representatives is not None and not 1 <= settings.representatives <= most:
        raise ParameterError(
            f"--representatives {settings.representatives} of {most} samples is out of range",
            f"Use 1 to {most}, or more --samples.",
        )
    if max_samples is not None and not auto:
        raise ParameterError("--max-samples is the limit of --samples auto", "Add that, or leave --max-samples out.")


def _with_progress(jobs: list[Job]) -> Iterator[Job]:
    """Yield the jobs, with a progress bar on a terminal's stderr where there are several."""
    if len(jobs) == 1 or not sys.stderr.isatty():
        yield from jobs
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), redirect_stdout=sys.stdout.isatty()) as progress:
        yield from progress.track(jobs, description="images")


def _complain(message: str) -> None:
    complain(PROGRAM, message)
