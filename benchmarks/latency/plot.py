"""The picture of a report: who takes how long, and how time grows with the number of samples."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from benchmarks.latency.bars import best
from benchmarks.latency.ours import END_TO_END
from benchmarks.latency.report import Report
from benchmarks.latency.timing import Timing
from benchmarks.tables import counted

SHORT = {
    "a": "(a) torch, one at a time",
    "b float32": "(b) torch batched, float32",
    "b bfloat16": "(b) torch batched, bfloat16",
    "c": "(c) diffusers, DDIM 50",
    "e": "(e) MONAI U-Net, one mask",
}
OURS, BEST, THEIRS, FLOOR = "#7fa8d9", "#1f5fa8", "#b5b5b5", "#c0392b"


def plot(report: Report, path: Path) -> None:
    """Draw both panels as a PNG."""
    mpl.use("agg")
    figure, (left, right) = plt.subplots(1, 2, figsize=(13, 5), layout="constrained")
    _contest(left, report)
    _growth(right, report)
    machine = report.machine
    figure.suptitle(
        f"{machine.processor}, {machine.cores} cores ({', '.join(machine.features)}), {report.date}", fontsize=10
    )
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _contest(axes: Axes, report: Report) -> None:
    """Draw a bar per contender, longest on top, each with its floor."""
    contest, winner = report.contest, best(report.contest)
    names = {
        c.key: f"ours, {c.key.removesuffix(f', {END_TO_END}')}"
        for c in contest.contenders
        if c.key.endswith(END_TO_END)
    } | SHORT
    shown = sorted((c for c in contest.contenders if c.key in names), key=lambda c: Timing.of(c.milliseconds).p50)
    for row, one in enumerate(shown):
        timing = Timing.of(one.milliseconds)
        colour = BEST if one is winner else OURS if one.key not in SHORT else THEIRS
        axes.barh(row, timing.p50, color=colour)
        peak = next(peak for peak in contest.peaks if peak.precision == one.precision)
        floor = peak.floor_ms(one.multiplications)
        axes.plot(
            [floor, floor],
            [row - 0.4, row + 0.4],
            color=FLOOR,
            linewidth=2,
            label="floor: its multiplications at the peak" if row == 0 else None,
        )
        axes.annotate(f" {timing.p50:,.0f} ms", (max(timing.p50, floor), row), va="center", fontsize=9)
    axes.set_yticks(range(len(shown)), [names[one.key] for one in shown])
    axes.set(
        xscale="log",
        xlabel="milliseconds (logarithmic), median",
        title=f"{contest.samples} samples, {contest.steps} steps, {counted(contest.threads, 'thread')}",
    )
    axes.set_xlim(right=6.0 * max(Timing.of(one.milliseconds).p50 for one in shown))
    axes.legend(loc="lower right", fontsize=8)


def _growth(axes: Axes, report: Report) -> None:
    """Draw end-to-end time against N for every engine, at the bundle's default steps."""
    steps = report.shipped.default_steps
    threads = report.contest.threads
    cells = [
        c
        for c in report.cells
        if c.stage == "end to end" and c.bundle == report.shipped.name and c.threads == threads and c.steps == steps
    ]
    for backend, precision in dict.fromkeys((c.backend, c.precision) for c in cells):
        line = sorted((c for c in cells if (c.backend, c.precision) == (backend, precision)), key=lambda c: c.samples)
        drawn = axes.errorbar([c.samples for c in line], [c.timing.p50 for c in line], marker="o", capsize=3, label=f"{backend} {precision}",
                              yerr=[[c.timing.p50 - c.timing.min for c in line], [c.timing.p90 - c.timing.p50 for c in line]])  # fmt: skip
        floors = [report.peak(precision, threads).floor_ms(c.multiplications) for c in line]
        axes.plot([c.samples for c in line], floors, linestyle=":", color=drawn.lines[0].get_color())
    ticks = sorted({c.samples for c in cells})
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="samples N",
        ylabel="milliseconds, median; bars: fastest to p90",
        title=f"End to end, {steps} steps; dotted: floor",
    )
    axes.set_xticks(ticks, [str(n) for n in ticks])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
