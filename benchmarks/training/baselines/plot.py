"""The plot of a comparison with the baselines: four figures and the reliability diagram."""

from __future__ import annotations

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture

from benchmarks.training.baselines.report import Report

PANELS = {
    "ged": "GED (lower is better)",
    "hm_iou": "HM-IoU (higher is better)",
    "consensus_dice": "Dice of the consensus (higher is better)",
    "squared_error": "squared error of the confidence (lower is better)",
}
COLORS = {
    "shipped": "#1f5fa8",
    "fast": "#6fa8dc",
    "paper": "#8e6bbf",
    "unet": "#b5b5b5",
    "unet-map": "#7a7a7a",
    "probabilistic-unet": "#c0392b",
}


def paint(report: Report) -> Picture:
    """Paint a panel for each figure, and the reliability diagram."""
    picture, axes = plt.subplots(1, len(PANELS) + 1, figsize=(16, 3.6), layout="constrained")
    for panel, (name, title) in zip(axes, PANELS.items(), strict=False):
        _figure(panel, report, name, title)
    _reliability(axes[-1], report)
    picture.suptitle(f"{report.images:,} images of {report.patients} patients; bars: 95 %, by patients", fontsize=10)
    return picture


def _figure(axes: Axes, report: Report, name: str, title: str) -> None:
    """Paint a point and its interval for every row that has the figure."""
    shown = [row for row in report.rows if name in row.figures]
    for place, row in enumerate(shown):
        found = row.figures[name]
        spread = [[found.mean - found.low], [found.high - found.mean]]
        axes.errorbar([found.mean], [place], xerr=spread, marker="o", capsize=3, color=COLORS[row.key])
    axes.set_yticks(range(len(shown)), [row.title for row in shown], fontsize=8)
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.set_title(title, fontsize=8)
    axes.grid(alpha=0.3, axis="x")


def _reliability(axes: Axes, report: Report) -> None:
    """Paint the share of raters against confidence, without rows of a single mask: they have two points."""
    axes.plot([0, 1], [0, 1], color="black", linewidth=0.8, linestyle=":")
    for row in report.rows:
        if len(row.reliability) > 2:
            points = [(found.confidence, found.agreement) for found in row.reliability]
            axes.plot(*zip(*points, strict=True), marker=".", label=row.title, color=COLORS[row.key])
    axes.set(xlabel="confidence", ylabel="share of raters")
    axes.set_title("reliability", fontsize=9)
    axes.legend(fontsize=7, loc="lower right")
