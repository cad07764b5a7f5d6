"""The plot of a latency run: time of each contender, and time against the number of samples."""

from __future__ import annotations

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture

from benchmarks.common.tables import count_of
from benchmarks.latency.ours import END_TO_END
from benchmarks.latency.report import Report
from benchmarks.latency.targets import fastest
from benchmarks.latency.timing import Timing

PEERS = {
    "a": "(a) torch, one at a time",
    "b float32": "(b) torch batched, float32",
    "b bfloat16": "(b) torch batched, bfloat16",
    "c": "(c) diffusers, DDIM 50",
    "e": "(e) MONAI U-Net, one mask",
}
OURS, FASTEST, THEIRS, FLOOR = "#7fa8d9", "#1f5fa8", "#b5b5b5", "#c0392b"


def paint(report: Report) -> Picture:
    """Paint both panels."""
    picture, (left, right) = plt.subplots(1, 2, figsize=(13, 5), layout="constrained")
    _contest(left, report)
    _growth(right, report)
    machine = report.machine
    title = f"{machine.processor}, {machine.cores} cores ({', '.join(machine.features)}), {report.date}"
    picture.suptitle(title, fontsize=10)
    return picture


def _contest(axes: Axes, report: Report) -> None:
    """Paint a bar and the floor of each contender, the slowest on top."""
    contest, best = report.contest, fastest(report.contest)
    ours = {c.key: f"ours, {c.key.removesuffix(f', {END_TO_END}')}" for c in contest.contenders if c.key.endswith(END_TO_END)}  # fmt: skip
    names = ours | PEERS
    shown = sorted((c for c in contest.contenders if c.key in names), key=lambda c: Timing.of(c.milliseconds).p50)
    for row, one in enumerate(shown):
        p50 = Timing.of(one.milliseconds).p50
        axes.barh(row, p50, color=FASTEST if one is best else OURS if one.key in ours else THEIRS)
        peak = next(peak for peak in contest.peaks if peak.precision == one.precision)
        floor = peak.floor_ms(one.multiplications)
        label = "floor: its multiplications at the peak" if row == 0 else None
        axes.plot([floor, floor], [row - 0.4, row + 0.4], color=FLOOR, linewidth=2, label=label)
        axes.annotate(f" {p50:,.0f} ms", (max(p50, floor), row), va="center", fontsize=9)
    axes.set_yticks(range(len(shown)), [names[one.key] for one in shown])
    axes.set(
        xscale="log",
        xlabel="milliseconds (logarithmic), median",
        title=f"{contest.samples} samples, {contest.steps} steps, {count_of(contest.threads, 'thread')}",
    )
    axes.set_xlim(right=6.0 * max(Timing.of(one.milliseconds).p50 for one in shown))
    axes.legend(loc="lower right", fontsize=8)


def _growth(axes: Axes, report: Report) -> None:
    """Paint end-to-end time against N for every backend, at the bundle's default steps."""
    steps, threads = report.shipped.default_steps, report.contest.threads
    cells = [
        c
        for c in report.cells
        if c.stage == "end to end" and c.bundle == report.shipped.name and c.threads == threads and c.steps == steps
    ]
    for backend, precision in dict.fromkeys((c.backend, c.precision) for c in cells):
        line = sorted((c for c in cells if (c.backend, c.precision) == (backend, precision)), key=lambda c: c.samples)
        samples = [c.samples for c in line]
        spread = [[c.timing.p50 - c.timing.min for c in line], [c.timing.p90 - c.timing.p50 for c in line]]
        medians, label = [c.timing.p50 for c in line], f"{backend} {precision}"
        drawn = axes.errorbar(samples, medians, yerr=spread, marker="o", capsize=3, label=label)
        floors = [report.peak(precision, threads).floor_ms(c.multiplications) for c in line]
        axes.plot(samples, floors, linestyle=":", color=drawn.lines[0].get_color())
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
