"""The picture of a report: GED of each variant, and its difference to the reference."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from benchmarks.ablations.report import Report
from medseg_trainer.evaluation.statistics import Figure

COLOURS = {"better": "#2e8b57", "worse": "#c0392b", "no difference seen": "#7f7f7f", None: "#1f5fa8"}


def plot(report: Report, path: Path) -> None:
    """Draw both panels as a PNG."""
    mpl.use("agg")
    rows = report.rows[::-1]  # the first on top
    titles, colours = [row.title for row in rows], [COLOURS[row.verdict] for row in rows]
    zero = Figure(0.0, 0.0, 0.0)
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 0.45 * len(rows) + 1.5), layout="constrained")
    _points(left, [row.figures["ged"] for row in rows], colours)
    _points(right, [row.difference.get("ged", zero) for row in rows], colours)
    left.set_yticks(range(len(rows)), titles)
    right.set_yticks(range(len(rows)), [])
    right.axvline(0.0, color=COLOURS[None], linewidth=1)
    left.set_xlabel(f"GED of {report.samples} samples (lower is better)")
    right.set_xlabel(f"less {report.reference}, image by image\n(green: better, red: worse, grey: neither can be told)")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _points(axes: Axes, figures: Sequence[Figure], colours: Sequence[str]) -> None:
    """Draw a mean and its interval in each row."""
    for row, (figure, colour) in enumerate(zip(figures, colours, strict=True)):
        axes.plot([figure.low, figure.high], [row, row], color=colour, linewidth=2)
        axes.plot([figure.mean], [row], color=colour, marker="o")
    axes.set_ylim(-0.6, len(figures) - 0.4)
    axes.grid(alpha=0.3, axis="x")
