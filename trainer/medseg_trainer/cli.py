"""The command medseg-train: split, check, fit, evaluate, show."""

from __future__ import annotations

import math
import os
import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from medseg_runtime.commands.program import run_command
from medseg_runtime.errors import CheckpointError, DataError, OutputError, ParameterError
from medseg_runtime.files.replace import replacing

if TYPE_CHECKING:
    from medseg_runtime.backends.base import BackendName
    from medseg_runtime.inference.segmenter import Segmenter
    from medseg_trainer.config.run import TrainConfig
    from medseg_trainer.evaluation.evaluate import Evaluation

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Train and evaluate latent-diffusion segmentation models. Research software, not a medical device.",
)
DataOption = Annotated[
    Path,
    typer.Option(
        help="Data folder: LIDC-IDRI-slices, ISIC-2018 Task 1 or CVC-ClinicDB, as zips or unpacked; or your own with images/ "
        "(PNG, JPEG, TIFF, BMP or DICOM), masks/ or outlines of COCO or labelme, and splits.csv. If it holds several data sets, "
        "the one whose masks outline the first class is used."
    ),
]
ClassesOption = Annotated[
    str | None, typer.Option(help="Names of the foreground classes, separated by commas; default: the preset's.")
]


@app.command()
def split(
    data: Annotated[Path, typer.Argument(help="Your own folder, with images/ and masks.", metavar="DATA")],
    val: Annotated[float, typer.Option(help="Share of the images to validate on.")] = 0.1,
    test: Annotated[float, typer.Option(help="Share of the images to test on.")] = 0.1,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the order in which groups are taken.")] = 0,
    group: Annotated[
        str | None,
        typer.Option(
            metavar="PATTERN",
            help="Regular expression on the path below images/; its first parentheses, or all that it matches, name the patient "
            "or video. Default: the column group or patient of splits.csv if it is there, or the first folder below images/.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace splits.csv; its other columns are kept.")] = False,
) -> None:
    """Write splits.csv: each patient or video into train, val or test."""
    from medseg_trainer.data.check_table import print_split
    from medseg_trainer.data.split import split_folder

    table = split_folder(data, val=val, test=test, seed=seed, group=group)
    table.write(data, force=force)
    print_split(table)


@app.command()
def check(
    data: Annotated[Path, typer.Argument(help="A data folder, as for `fit`.", metavar="DATA")],
    classes: Annotated[
        str | None, typer.Option(help="Names of the foreground classes, separated by commas; default: one class.")
    ] = None,
    out: Annotated[Path, typer.Option(help="PNG file for the sheet.")] = Path("check.png"),
) -> None:
    """Read all images and masks, and list what a training would refuse. Exit with 1 if there is anything.

    The sheet shows images with their masks' outlines. Look at it: whether they lie on each other, only a person can see.
    """
    from medseg_trainer.config.run import check_class_names
    from medseg_trainer.data.check import check_data
    from medseg_trainer.data.check_sheet import render_sheet
    from medseg_trainer.data.check_table import print_report
    from medseg_trainer.training.run_files import writing

    if classes is not None:
        check_class_names(_names(classes))
    _check_writable(out, ".png")
    report = check_data(data, _names(classes) or ("",))
    print_report(report)
    if report.panels:
        with writing(out), replacing(out) as temporary:
            render_sheet(report.panels).save(temporary)
        print(f"sheet: {out}")
    if report.problems:
        raise DataError(f"a training would refuse {len(report.problems)} of these", "Mend the problems listed above.")


@app.command()
def fit(
    preset: Annotated[str, typer.Argument(help="Name of a preset; `medseg-train show` lists them.")],
    data: DataOption,
    out: Annotated[Path, typer.Option(help="Run folder. After an interruption, the same command resumes.")],
    classes: ClassesOption = None,
    raters: Annotated[int | None, typer.Option(help="Masks per image; default: the preset's.")] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, max=2**63 - 1, help="Seed of weights, data order and noise.")
    ] = None,
) -> None:
    """Train the autoencoders, then the denoiser, then its tuning if the preset has one."""
    from medseg_trainer.training.loop import fit as run_fit

    config = _preset(preset)
    given = {"--classes": classes, "--raters": raters, "--seed": seed}
    options = "".join(f" {name} {shlex.quote(str(value))}" for name, value in given.items() if value is not None)
    raters = config.raters if raters is None else raters
    config = replace(
        config,
        classes=_names(classes) or config.classes,
        raters=raters,
        seed=config.seed if seed is None else seed,
        denoiser=replace(config.denoiser, raters_per_image=min(config.denoiser.raters_per_image, raters)),
    )
    run_fit(config, data, out, command=f"medseg-train fit {preset} --data DATA --out RUN{options}")


@app.command()
def evaluate(
    target: Annotated[Path, typer.Argument(help="Run folder or bundle.", metavar="RUN_OR_BUNDLE")],
    data: DataOption,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "val",
    samples: Annotated[int, typer.Option(min=1, help="Samples for each image.")] = 16,
    steps: Annotated[int | None, typer.Option(help="Sampling steps; default: the model's.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the noise.")] = 0,
    images: Annotated[
        int | None, typer.Option(min=1, help="Evaluate only so many images, evenly spaced; default: all.")
    ] = None,
    ged100: Annotated[bool, typer.Option("--ged100", help="Draw 100 samples, and add the GED of all of them.")] = False,
    backend: Annotated[
        str, typer.Option(help="Backend for a bundle: auto, or one that `medseg-doctor` lists.")
    ] = "auto",
    out: Annotated[
        Path | None,
        typer.Option(
            help="JSON file for the results. A PNG with the best, median and worst images and a reliability diagram is written "
            "next to it. Default for a run: its evaluation.json."
        ),
    ] = None,
) -> None:
    """Compare a run or a bundle with the raters: GED, HM-IoU, diversity, Dice, HD95, calibration."""
    from medseg_trainer.evaluation.evaluate import evaluate as measure
    from medseg_trainer.evaluation.evaluate import split_named
    from medseg_trainer.training.run_files import write_atomically
    from medseg_trainer.training.run_folder import CONFIG_NAME

    segmenter = _segmenter(target, backend)
    if out is None and (target / CONFIG_NAME).exists():
        out = target / "evaluation.json"
    if out is not None:
        _check_writable(out, ".json")
    report = measure(
        segmenter,
        data,
        split_named(split),
        samples=samples,
        steps=steps,
        seed=seed,
        images=images,
        ged_100=ged100,
        sheet=None if out is None else out.with_suffix(".png"),
    )
    _print_table(report)
    if out is not None:
        write_atomically(out, report.to_json())


@app.command()
def show(
    preset: Annotated[str | None, typer.Argument(help="Name of a preset; without it, the presets are listed.")] = None,
) -> None:
    """Print a preset as JSON, or list the presets."""
    from medseg_trainer.config.presets import PRESETS

    if preset is None:
        for name, function in PRESETS.items():
            print(f"{name:<8}{(function.__doc__ or '').splitlines()[0]}")
    else:
        print(_preset(preset).to_json(), end="")


def _names(classes: str | None) -> tuple[str, ...]:
    return () if classes is None else tuple(name.strip() for name in classes.split(","))


def _check_writable(out: Path, suffix: str) -> None:
    fits = (out.suffix.lower() == ".png") == (suffix == ".png")
    if out.is_dir() or not fits or not os.access(out.parent, os.W_OK):
        raise OutputError(
            f"{out.name!r} cannot be written there", f"Give --out a {suffix} file in a folder that you may write to."
        )


def _print_table(report: Evaluation) -> None:
    from rich.console import Console
    from rich.table import Table

    from medseg_trainer.evaluation.statistics import TITLES

    table = Table("metric", "mean", f"95 % interval over {report.grouped_by}")
    for name, title in TITLES.items():
        figure = report.figures[name]
        if not math.isnan(figure.mean):
            table.add_row(title, f"{figure.mean:.4f}", f"{figure.low:.4f} to {figure.high:.4f}")
    console = Console()
    console.print(table)
    console.print(
        f"{report.images} images of {report.groups} {report.grouped_by}, {report.samples} samples, {report.steps} steps, "
        f"{report.backend}, {report.seconds:.0f} s",
        highlight=False,
    )


def _preset(name: str) -> TrainConfig:
    from medseg_trainer.config.presets import PRESETS

    if name not in PRESETS:
        raise ParameterError(f"there is no preset {name!r}", f"Use one of: {', '.join(PRESETS)}.")
    return PRESETS[name]()


def _segmenter(target: Path, backend: str) -> Segmenter:
    """Load a bundle on a backend, or a run in torch."""
    from medseg_runtime.inference.segmenter import Segmenter
    from medseg_runtime.model.bundle import MANIFEST_NAME
    from medseg_trainer.models.graphs import TorchBackend
    from medseg_trainer.models.manifest import manifest_of
    from medseg_trainer.training.run_folder import CONFIG_NAME, RunFolder

    if (target / MANIFEST_NAME).exists():
        return Segmenter.load(target, backend=cast("BackendName", backend))
    if not (target / CONFIG_NAME).exists():
        raise CheckpointError(
            f"{target.name!r} is neither a run nor a bundle", "Give a folder with config.json or bundle.json."
        )
    run = RunFolder(target)
    manifest = replace(manifest_of(run.config()), training={"kept": run.kept()})
    return Segmenter(manifest, TorchBackend(run.networks()))


def main() -> None:
    """Run the command and exit the process."""
    run_command(app, "medseg-train", extras="train")
