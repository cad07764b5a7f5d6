"""The page of a comparison with the baselines: figures, differences, and how each model was trained."""

from __future__ import annotations

from benchmarks.common.page import Page, Plot, Section
from benchmarks.common.tables import format_interval, table
from benchmarks.training.baselines.figures import COMPARED
from benchmarks.training.baselines.masks import MaskComparison
from benchmarks.training.baselines.plot import paint
from benchmarks.training.baselines.report import MAP, Report, Row
from medseg_trainer.evaluation.statistics import TITLES, Figure

SHOWN = {
    "ged": TITLES["ged"],
    "hm_iou": TITLES["hm_iou"],
    "sample_diversity": TITLES["sample_diversity"],
    "rater_diversity": TITLES["rater_diversity"],
    "empty_samples": TITLES["empty_samples"],
    "empty_raters": TITLES["empty_raters"],
    "consensus_dice": TITLES["consensus_dice"],
    "consensus_iou": TITLES["consensus_iou"],
    "small_dice": TITLES["small_dice"],
    "small_iou": TITLES["small_iou"],
    "hd95_px": TITLES["hd95_px"],
    "one_empty": TITLES["one_empty"],
    "brier": TITLES["brier"],
    "squared_error": "squared error of the confidence, summed over an image's pixels",
    "ece": TITLES["ece"],
}
"""Figures in the order of the table."""
ABOUT_FIGURES = (
    "The U-Net returns one mask, so its GED cannot gain from a second sample. Its second column takes the probability map as confidence, "
    "rounded to sixteenths as sixteen samples would give it. Brier score and ECE leave out pixels where confidence and raters are both "
    "zero: a model that spreads a faint confidence over the background scores better by it. The squared error sums over all pixels; "
    "compare models by it."
)
ABOUT_TRAINING = (
    "CPU minutes are processor time, validation included. The steps were computed beforehand for the `--cpu-minutes` of the commands, so "
    "that the learning rate decays over exactly this budget. The shipped model was trained on a GPU."
)


def page(report: Report) -> Page:
    """Lay out the page."""
    return Page(
        kind="baselines",
        subject=report.model,
        title="Baselines",
        record=report,
        data=f"{report.images:,} images of {report.patients} patients of the split `{report.split}`",
        seed=report.seed,
        facts={"Bundle": f"sha256 {report.bundle_sha256[:12]}"},
        introduction=(
            (
                "All but the shipped model were trained from scratch in the same processor time, on the same patients and the same 64x64 "
                "field. Their weights were kept by GED on a few val images. All are measured through the runtime's `Segmenter`. Intervals: "
                "95 %, bootstrap over patients."
            ),
        ),
        plot=Plot("Our presets and the baselines", lambda: paint(report)),
        sections=(
            Section("Figures", (_figures(report), ABOUT_FIGURES)),
            Section(
                "Ours in the same time minus theirs, image by image",
                (_differences(report), "Bold: the 95 % interval of the difference, by patients, excludes zero."),
            ),
            Section("Training", (_trainings(report), ABOUT_TRAINING)),
            *([] if report.masks is None else [_masks(report.masks)]),
        ),
    )


def _figures(report: Report) -> str:
    rows = [(title, *(format_interval(row.figures.get(name)) for row in report.rows)) for name, title in SHOWN.items()]
    return table(("", *(_column(row) for row in report.rows)), rows)


def _column(row: Row) -> str:
    return row.title if row.key.endswith(MAP) else f"{row.title}, {row.samples} mask{'s' * (row.samples > 1)}"


def _differences(report: Report) -> str:
    compared = [row for row in report.rows if row.ours_less]
    rows = [(SHOWN[name], *(_difference(row.ours_less.get(name)) for row in compared)) for name in COMPARED]
    return table(("", *(row.title for row in compared)), rows)


def _difference(figure: Figure | None) -> str:
    """Write a difference, in bold where its interval excludes zero."""
    text = format_interval(figure, "+")
    return f"**{text}**" if figure is not None and not figure.low <= 0.0 <= figure.high else text


def _trainings(report: Report) -> str:
    rows = []
    for row in report.rows:
        if not row.key.endswith(MAP):
            of = row.training
            minutes = "not recorded" if of.cpu_minutes is None else f"{of.cpu_minutes:.0f}"
            command, size, seed = f"`{of.command}`", f"{of.parameters:,}", str(of.seed)
            rows.append((row.title, command, size, of.steps, of.augmentation, minutes, of.kept, seed))
    return table(("", "command", "parameters", "steps", "augmentation", "CPU minutes", "measured", "seed"), rows)


def _masks(found: MaskComparison) -> Section:
    return Section(
        "(c) The mask autoencoder: weighted cross-entropy against the mean squared error",
        (
            (
                f"Every non-empty rater's mask of every third image of `{found.split}` ({found.images:,} images) is encoded and decoded. Both "
                f"autoencoders were trained for {found.steps:,} steps of {found.batch_size} masks each, with the same settings but for the "
                f"loss, seed {found.seed}. The second took {found.mse_cpu_minutes:.0f} CPU minutes. Noise: standard deviation added to the "
                f"latent, whose own is 1.\nCommand: `{found.command}`."
            ),
            _mask_table("Dice", found),
            _mask_table("IoU", found),
        ),
    )


def _mask_table(title: str, found: MaskComparison) -> str:
    rows = []
    for row in found.rows:
        figures = {"Dice": row.dice, "IoU": row.iou}[title]
        rows.append((
            row.sizes, f"{row.noise:g}", f"{row.masks:,}", str(row.patients), format_interval(figures["cross_entropy"]),
            format_interval(figures["mse"]), _difference(figures["difference"]),
        ))  # fmt: skip
    header = (f"{title}: target", "noise", "masks", "patients", "cross-entropy", "mean squared error", "difference")
    return table(header, rows)
