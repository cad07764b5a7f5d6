"""The page of a comparison: figures side by side, differences with their intervals, and what each model cost."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.baselines.masks import MaskContest
from benchmarks.baselines.measured import COMPARED
from benchmarks.baselines.report import MAP, Report, Row
from benchmarks.tables import with_interval
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
"""Figures by the order of the table."""


def page(report: Report) -> str:
    """Return the page as Markdown."""
    parts = [_head(report), _figures(report), _differences(report), _trainings(report)]
    if report.masks is not None:
        parts.append(_masks(report.masks))
    return "\n".join(line for part in parts for line in part) + f"\n![Ours and the baselines]({report.stem}.png)\n"


def _head(report: Report) -> Iterator[str]:
    machine = report.machine
    versions = ", ".join(
        f"{name} {machine.versions[name]}" for name in ("medseglatdiff", "torch", "monai", "onnxruntime")
    )
    yield f"# {report.stem}\n"
    yield (
        f"{report.images:,} images of {report.patients} patients of the split `{report.split}`, seed {report.seed}; bundle sha256 "
        f"{report.bundle_sha256[:12]}; {machine.processor}, {machine.cores} cores ({', '.join(machine.features)}), commit {machine.commit}; "
        f"{versions}; {report.seconds / 60:.0f} minutes.\nCommand: `{report.command}`.\n"
    )
    yield (
        "All but the shipped model were trained from nothing in the same processor time, on the same patients, in the same 64x64 field, and their "
        "weights kept by GED on a few val images. All are measured by the same lines, through the runtime's own segmenter. Intervals: 95 %, "
        "bootstrap over patients.\n"
    )


def _figures(report: Report) -> Iterator[str]:
    yield "## Figures\n"
    yield f"| | {' | '.join(_named(row) for row in report.rows)} |"
    yield f"|{'---|' * (len(report.rows) + 1)}"
    for name, title in SHOWN.items():
        yield f"| {title} | {' | '.join(with_interval(row.figures.get(name)) for row in report.rows)} |"
    yield (
        "\nThe U-Net answers with one mask, so its GED has no second sample to gain by; it has a second column, where its probability "
        "map is taken as confidence, in sixteenths as sixteen samples would give it. Brier score and ECE leave out pixels where "
        "confidence and raters are both zero: a model that spreads a faint confidence over the background is praised for it. The squared "
        "error, a sum over all pixels, is the one to compare models by.\n"
    )


def _named(row: Row) -> str:
    return row.title if row.key.endswith(MAP) else f"{row.title}, {row.samples} mask{'s' * (row.samples > 1)}"


def _differences(report: Report) -> Iterator[str]:
    """Yield our own recipe less each other; in bold where the interval holds no zero."""
    baselines = [row for row in report.rows if row.ours_less]
    yield "## Ours in the same time less theirs, image by image\n"
    yield f"| | {' | '.join(row.title for row in baselines)} |"
    yield f"|{'---|' * (len(baselines) + 1)}"
    for name in COMPARED:
        yield f"| {SHOWN[name]} | {' | '.join(_difference(row.ours_less.get(name)) for row in baselines)} |"
    yield "\nBold: the 95 % interval of the difference, by patients, holds no zero.\n"


def _difference(figure: Figure | None) -> str:
    text = with_interval(figure, "+")
    return f"**{text}**" if figure is not None and not figure.low <= 0.0 <= figure.high else text


def _trainings(report: Report) -> Iterator[str]:
    yield "## Training\n"
    yield "| | command | parameters | steps | augmentation | CPU minutes | measured | seed |"
    yield "|---|---|---|---|---|---|---|---|"
    for row in report.rows:
        if not row.key.endswith(MAP):
            of = row.training
            minutes = "not recorded" if of.cpu_minutes is None else f"{of.cpu_minutes:.0f}"
            yield f"| {row.title} | `{of.command}` | {of.parameters:,} | {of.steps} | {of.augmentation} | {minutes} | {of.kept} | {of.seed} |"
    yield (
        "\nCPU minutes are of processor time, validation included. The steps were counted out beforehand for the "
        "`--cpu-minutes` of the commands, so that the learning rate decays over just that. The shipped model had a GPU.\n"
    )


def _masks(contest: MaskContest) -> Iterator[str]:
    yield "## (c) The mask autoencoder: weighted cross-entropy against the mean squared error\n"
    yield (
        f"Every rater's mask that is not empty on every third image of `{contest.split}` ({contest.images:,} images), through the mask "
        f"autoencoder and back; {contest.steps:,} steps of {contest.batch_size} masks each, the same but for the loss, seed "
        f"{contest.seed}; the second took {contest.mse_cpu_minutes:.0f} CPU minutes. Noise: standard deviation of what is added to the "
        f"latent, whose own is 1.\nCommand: `{contest.command}`.\n"
    )
    for name in ("dice", "iou"):
        title = {"dice": "Dice", "iou": "IoU"}[name]
        yield f"| {title}: target | noise | masks | patients | cross-entropy | mean squared error | difference |"
        yield "|---|---|---|---|---|---|---|"
        for row in contest.rows:
            figures = getattr(row, name)
            cells = (
                with_interval(figures["cross_entropy"]),
                with_interval(figures["mse"]),
                _difference(figures["difference"]),
            )
            yield f"| {row.sizes} | {row.noise:g} | {row.masks:,} | {row.patients} | {' | '.join(cells)} |"
        yield ""
