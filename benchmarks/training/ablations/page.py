"""The page of an ablation study."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture

from benchmarks.common.page import Page, Plot, Section
from benchmarks.common.tables import format_interval, noise_name, table
from benchmarks.training.ablations.report import SHOWN, Report, Row
from medseg_trainer.evaluation.statistics import Figure

COLORS = {"better": "#2e8b57", "worse": "#c0392b", "no difference seen": "#7f7f7f", None: "#1f5fa8"}


def page(report: Report) -> Page:
    """Lay out the page."""
    start = report.rows[0].training.start_sha256
    return Page(
        kind=report.key,
        subject=report.model,
        title="Ablations" if report.key == "ablations" else f"Ablations of the {report.key}",
        record=report,
        data=f"{report.images:,} evenly spaced images of {report.groups} patients of the split `val`, {report.samples} samples each",
        seed=report.seed,
        facts={"Backend": "torch, float32"} | ({"Starting weights": f"sha256 {start[:12]}"} if start else {}),
        introduction=(
            report.about,
            (
                "One run and one seed of each variant: an interval covers other patients, not other seeds. Intervals: 95 %, bootstrap over "
                "patients. S: sampling steps."
            ),
        ),
        plot=Plot(f"GED of each variant, and its difference from {report.reference}", lambda: _paint(report)),
        sections=(
            Section("Figures", (_figures(report),)),
            Section(
                f"Minus `{report.reference}`, image by image",
                (
                    _differences(report),
                    "By GED: better or worse where the interval of the difference excludes zero.",
                ),
            ),
            Section("Training", (_trainings(report),)),
        ),
    )


def _figures(report: Report) -> str:
    rows = [
        (
            row.variant,
            row.what,
            str(row.steps),
            noise_name(row.noise),
            *(format_interval(f) for f in row.figures.values()),
        )
        for row in report.rows
    ]
    diversity, empty = (report.raters[name] for name in ("rater_diversity", "empty_raters"))
    raters = {"sample_diversity": format_interval(diversity), "empty_samples": format_interval(empty)}
    shown = report.rows[0].figures
    rows.append(("raters", "the values of a perfect model", "", "", *(raters.get(name, "") for name in shown)))
    return table(("variant", "what", "S", "noise", *(SHOWN[name] for name in shown)), rows)


def _differences(report: Report) -> str:
    shown = {name: SHOWN[name] for name in report.rows[0].figures if name != "ece"}
    rows = [
        (row.title, row.verdict or "", *(format_interval(row.difference.get(name), "+") for name in shown))
        for row in report.rows
        if row.difference
    ]
    return table(("variant", "by GED", *shown.values()), rows)


def _trainings(report: Report) -> str:
    header = (
        "variant",
        "command",
        "steps",
        "images x masks",
        "learning rate",
        "seed",
        "kept step",
        "CPU minutes",
        "processor",
    )
    return table(header, dict.fromkeys(_training(row) for row in report.rows if row.trained_steps))


def _training(row: Row) -> tuple[str, ...]:
    record = row.training
    return (
        row.variant, f"`{record.command}`", str(row.trained_steps), f"{row.images} x {row.masks}", f"{row.learning_rate:g}",
        str(record.seed), str(row.kept_step), f"{record.cpu_seconds / 60:.1f}", record.processor,
    )  # fmt: skip


def _paint(report: Report) -> Picture:
    """Paint GED of each variant, and beside it the difference from the reference."""
    rows = report.rows[::-1]  # the first on top
    titles, colors = [row.title for row in rows], [COLORS[row.verdict] for row in rows]
    zero = Figure(0.0, 0.0, 0.0)
    picture, (left, right) = plt.subplots(1, 2, figsize=(12, 0.45 * len(rows) + 1.5), layout="constrained")
    _points(left, [row.figures["ged"] for row in rows], colors)
    _points(right, [row.difference.get("ged", zero) for row in rows], colors)
    left.set_yticks(range(len(rows)), titles)
    right.set_yticks(range(len(rows)), [])
    right.axvline(0.0, color=COLORS[None], linewidth=1)
    left.set_xlabel(f"GED of {report.samples} samples (lower is better)")
    right.set_xlabel(f"minus {report.reference}, image by image\n(green: better, red: worse, gray: no difference seen)")
    return picture


def _points(axes: Axes, figures: Sequence[Figure], colors: Sequence[str]) -> None:
    """Paint a mean and its interval in each row."""
    for row, (figure, color) in enumerate(zip(figures, colors, strict=True)):
        axes.plot([figure.low, figure.high], [row, row], color=color, linewidth=2)
        axes.plot([figure.mean], [row], color=color, marker="o")
    axes.set_ylim(-0.6, len(figures) - 0.4)
    axes.grid(alpha=0.3, axis="x")
