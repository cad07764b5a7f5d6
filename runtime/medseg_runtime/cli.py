"""medseg-infer: images in, one folder of masks, maps and pictures each out.

    parse => jobs (image, folder), all folders checked => model loaded once => per image: read, segment, write, one line

Results go to stdout, everything else to stderr. Exit 1 where an image failed; the others are finished.
"""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medseg_runtime import __version__
from medseg_runtime.command import complain, libraries_muted, run_command
from medseg_runtime.errors import MedsegError, ParameterError
from medseg_runtime.imaging import Box

if TYPE_CHECKING:
    from PIL.Image import Image

    from medseg_runtime.io.aim import Aim, Target
    from medseg_runtime.provenance import Run
    from medseg_runtime.segmenter import Segmentation, Segmenter

    Attach = Callable[[list[Segmentation], Segmenter, Image], dict[str, bytes]]

PROGRAM = "medseg-infer"
RESULTS = Path("results")

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@dataclass(frozen=True, slots=True)
class Job:
    """One image and the folder for its result."""

    image: Path
    out: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """What is asked of the model for every image."""

    samples: int
    steps: int | None
    sampler: str | None
    seed: int
    threshold: float
    region: Box | None
    aim: Aim
    dicom_seg: bool
    nifti: bool


def main() -> None:
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
    samples: Annotated[int, typer.Option(help="How many plausible masks to draw.")] = 16,
    steps: Annotated[int | None, typer.Option(help="Network calls per sample. Default: the bundle's.")] = None,
    sampler: Annotated[
        str | None, typer.Option(help="ddim, ddpm, euler or dpmpp. Default: the bundle's.", metavar="NAME")
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same masks.")] = 0,
    bundle: Annotated[
        Path | None, typer.Option(help="Folder of a model. Default: the lung-nodule model that ships with this.")
    ] = None,
    backend: Annotated[str, typer.Option(help="auto or onnxruntime.", metavar="NAME")] = "auto",
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
    from medseg_runtime.provenance import Audit
    from medseg_runtime.publish import check_output
    from medseg_runtime.report import RESULT
    from medseg_runtime.segmenter import Segmenter

    try:
        region = None if roi is None else _region(roi)
        aim = _aim(center, center_mm, frame, slices)
        if slices > 1 and not (dicom_seg or nifti):
            raise ParameterError("PNG files hold one slice", "Add --dicom-seg or --nifti, or leave --slices out.")
        settings = Settings(
            samples=samples, steps=steps, sampler=sampler, seed=seed, threshold=threshold, region=region, aim=aim,
            dicom_seg=dicom_seg, nifti=nifti,
        )  # fmt: skip
        log = Audit(audit, dataclasses.asdict(settings))
        log.check()
    except MedsegError as error:
        _complain(str(error))
        raise typer.Exit(1) from error
    jobs: list[Job] = []
    try:
        jobs = plan(images, out, as_series=aim.needs_series)
        for job in jobs:
            check_output(job.out, RESULT, force=force)
        segmenter = Segmenter.load(bundle, backend=backend)
        log.segmenter = segmenter
        segmenter.check(samples, steps, seed, sampler=sampler, threshold=threshold)
    except MedsegError as error:
        unread: list[Path | None] = [job.image for job in jobs]
        for image in unread or [None]:
            with suppress(MedsegError), log.image(image):
                raise
        _complain(str(error))
        raise typer.Exit(1) from error
    failed = 0
    for job in _with_progress(jobs):
        try:
            with log.image(job.image) as run:
                line = _run(job, segmenter, settings, run, force=force, as_json=as_json)
        except MemoryError:
            failed += 1
            _complain(f"{_name(job.image)}: the memory does not suffice. Use fewer --samples, or a crop of the image.")
        except MedsegError as error:
            failed += 1
            _complain(f"{_name(job.image)}: {error}")
        else:
            typer.echo(line)
    if failed and len(jobs) > 1:
        _complain(f"{failed} of {len(jobs)} images failed. The others are finished.")
    if failed:
        raise typer.Exit(1)


def _run(job: Job, segmenter: Segmenter, settings: Settings, run: Run, *, force: bool, as_json: bool) -> str:
    """Read, segment and write one image; return the line for stdout."""
    from medseg_runtime.io.aim import take_aim
    from medseg_runtime.overlay import key_figures
    from medseg_runtime.publish import shown
    from medseg_runtime.report import write_results

    with libraries_muted():
        target = take_aim(job.image, settings.aim)
    source = target.images[target.index]
    run.input_sha256 = source.sha256
    attach = _attachments(target, settings)
    results = [
        segmenter(
            image,
            samples=settings.samples,
            steps=settings.steps,
            seed=settings.seed,
            sampler=settings.sampler,
            threshold=settings.threshold,
            region=settings.region,
            center=target.center,
        )
        for image in target.images
    ]
    segmentation = results[target.index]
    write_results(
        job.out, source, segmentation, segmenter, force=force, run=run, attach=partial(attach, results, segmenter)
    )
    for warning in (*source.warnings, *segmentation.warnings):
        typer.echo(f"{PROGRAM}: warning: {_name(job.image)}: {warning}", err=True)
    if as_json:
        return json.dumps(json.loads((job.out / "result.json").read_text(encoding="utf-8")))
    return f"{_name(job.image)}: {', '.join(key_figures(segmentation))} -> {shown(job.out / 'overlay.png')}"


def _attachments(target: Target, settings: Settings) -> Attach:
    """Check that the files asked for can be written of this target, and return what makes them."""
    if settings.dicom_seg:
        from medseg_runtime import dicom_seg

        dicom_seg.check_sources(target.images)
    if settings.nifti:
        from medseg_runtime import nifti

        nifti.check_sources(target.images)

    def attach(results: list[Segmentation], segmenter: Segmenter, overlay: Image) -> dict[str, bytes]:
        files: dict[str, bytes] = {}
        if settings.dicom_seg:
            made = dicom_seg.dicom_objects(target.images, results, segmenter, overlay, pointed_at=target.index)
            files |= {f"dicom/{name}": content for name, content in made.items()}
        if settings.nifti:
            from medseg_runtime.report import folder_names

            made = nifti.nifti_files(target.images, results, folder_names(segmenter.manifest.classes))
            files |= {f"nifti/{name}": content for name, content in made.items()}
        return files

    return attach


def plan(images: Iterable[Path], out: Path | None, *, as_series: bool = False) -> list[Job]:
    """Return what is to be done, folders resolved to their images; an image named twice is done once.

    A single file goes to `out` itself, by default `results/<stem>`. Otherwise each goes to a folder in `out`, by default in
    `results`, named by the shortest of these that is no other image's: its stem, its name, its folder and name, and those
    with a number.

    as_series: a folder is one series, not many images.

    Raises:
        ImageError: a folder without images.
    """
    from medseg_runtime.io import images_in, is_folder

    named = list(images)
    files = [file for image in named for file in (images_in(image) if is_folder(image) and not as_series else [image])]
    files = list({file.absolute(): file for file in files}.values())
    if len(files) == 1 and (as_series or not is_folder(named[0])):
        return [Job(files[0], out or RESULTS / files[0].stem)]
    names = [file.stem for file in files]
    for longer in (lambda file: file.name, lambda file: f"{file.absolute().parent.name}-{file.name}"):
        clashes = _clashing(names)
        names = [longer(file) if name in clashes else name for file, name in zip(files, names, strict=True)]
    clashes = _clashing(names)
    names = [f"{index}-{name}" if name in clashes else name for index, name in enumerate(names, start=1)]
    return [Job(file, (out or RESULTS) / name) for file, name in zip(files, names, strict=True)]


def _clashing(names: list[str]) -> set[str]:
    count = Counter(name.casefold() for name in names)
    return {name for name in names if count[name.casefold()] > 1}


def _region(text: str) -> Box:
    try:
        x, y, width, height = (int(part) for part in text.split(","))
    except ValueError as error:
        raise ParameterError(
            f"the region {text!r} is not four whole numbers", "Give --roi X,Y,W,H in pixels."
        ) from error
    return Box(x=x, y=y, width=width, height=height)


def _aim(center: str | None, center_mm: str | None, frame: int | None, slices: int) -> Aim:
    from medseg_runtime.io.aim import Aim

    pixel = None if center is None else _numbers(center, (2, 3), "--center X,Y or X,Y,Z")
    point = None if center_mm is None else _numbers(center_mm, (3,), "--center-mm X,Y,Z")
    return Aim(
        center=pixel,
        center_mm=None if point is None else (point[0], point[1], point[2]),
        frame=frame,
        slices=slices,
    )


def _numbers(text: str, counts: tuple[int, ...], form: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) not in counts or not all(math.isfinite(number) for number in numbers):
        raise ParameterError(f"the point {text!r} is not {' or '.join(map(str, counts))} numbers", f"Give {form}.")
    return numbers


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


def _name(path: Path) -> str:
    from medseg_runtime.publish import shown

    return shown(path.name)
