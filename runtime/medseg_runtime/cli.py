"""medseg-infer: images in, one folder of masks, maps and pictures each out.

    parse => jobs (image, folder), all folders checked => model loaded once => per image: read, segment, write, one line

Results go to stdout, everything else to stderr. Exit 1 where an image failed; the others are finished.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medseg_runtime import __version__
from medseg_runtime.errors import MedsegError, ParameterError
from medseg_runtime.imaging import Box

if TYPE_CHECKING:
    from medseg_runtime.segmenter import Segmenter

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


def main() -> None:
    """Run the command."""
    app(prog_name=PROGRAM)


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
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the result; of several images, for one folder each. Default: results/IMAGE."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace older results.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print each result.json as one line.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Draw many plausible segmentations of a medical image, and where they agree.

    Research software, not a medical device.
    """
    del version  # its callback has dealt with it
    from medseg_runtime.report import check_output
    from medseg_runtime.segmenter import Segmenter

    try:
        region = None if roi is None else _region(roi)
        settings = Settings(
            samples=samples, steps=steps, sampler=sampler, seed=seed, threshold=threshold, region=region
        )
        jobs = plan(images, out)
        for job in jobs:
            check_output(job.out, force=force)
        segmenter = Segmenter.load(bundle, backend=backend)
        segmenter.check(samples, steps, seed, sampler=sampler, threshold=threshold)
    except MedsegError as error:
        _complain(str(error))
        raise typer.Exit(1) from error
    failed = 0
    for job in _with_progress(jobs):
        try:
            line = _run(job, segmenter, settings, force=force, as_json=as_json)
        except MedsegError as error:
            failed += 1
            _complain(f"{_name(job.image)}: {error}")
        else:
            typer.echo(line)
    if failed and len(jobs) > 1:
        _complain(f"{failed} of {len(jobs)} images failed. The others are finished.")
    if failed:
        raise typer.Exit(1)


def _run(job: Job, segmenter: Segmenter, settings: Settings, *, force: bool, as_json: bool) -> str:
    """Read, segment and write one image; return the line for stdout."""
    from medseg_runtime.io import read_image
    from medseg_runtime.overlay import key_figures
    from medseg_runtime.report import shown, write_results

    source = read_image(job.image)
    segmentation = segmenter(
        source.pixels,
        samples=settings.samples,
        steps=settings.steps,
        seed=settings.seed,
        sampler=settings.sampler,
        threshold=settings.threshold,
        region=settings.region,
    )
    write_results(job.out, source, segmentation, segmenter, force=force)
    for warning in (*source.warnings, *segmentation.warnings):
        typer.echo(f"{PROGRAM}: warning: {_name(job.image)}: {warning}", err=True)
    if as_json:
        return json.dumps(json.loads((job.out / "result.json").read_text(encoding="utf-8")))
    return f"{_name(job.image)}: {', '.join(key_figures(segmentation))} -> {shown(job.out / 'overlay.png')}"


def plan(images: Iterable[Path], out: Path | None) -> list[Job]:
    """Return what is to be done, folders resolved to their images; an image named twice is done once.

    A single file goes to `out` itself, by default `results/<stem>`. Otherwise each goes to a folder in `out`, by default in
    `results`, named by the shortest of these that is no other image's: its stem, its name, its folder and name, and those
    with a number.

    Raises:
        ImageError: a folder without images.
    """
    from medseg_runtime.io import images_in

    named = list(images)
    files = [file for image in named for file in (images_in(image) if image.is_dir() else [image])]
    files = list({file.absolute(): file for file in files}.values())
    if len(files) == 1 and not named[0].is_dir():
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
    typer.echo(f"{PROGRAM}: error: {' '.join(message.split())}", err=True)


def _name(path: Path) -> str:
    from medseg_runtime.report import shown

    return shown(path.name)
