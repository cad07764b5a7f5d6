"""The page of a GPU run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure as Picture

from benchmarks.common.page import Page, Plot, Section
from benchmarks.common.tables import table
from benchmarks.gpu.measure import Cell
from benchmarks.gpu.report import Report

SINGLE, BATCHED, RUNNER = "torch eager, sample by sample", "torch eager, batched", "TensorRT"
STEPS = 4
"""Sampling steps of targets and plot."""


def page(report: Report) -> Page:
    """Lay out the page."""
    side = max(cell.side for cell in report.cells)
    return Page(
        kind="gpu",
        subject=report.device,
        title="The sampling loop on a GPU",
        record=report,
        data="random images and noise; networks with random weights",
        seed=0,
        facts={
            "GPU": report.device,
            "Versions": ", ".join(f"{name} {version}" for name, version in report.versions.items()),
            "Peak of a matrix product": ", ".join(f"{name} {peak:.1f} TFLOP/s" for name, peak in report.peaks.items()),
        },
        introduction=(
            (
                "Times are from image and noise in host memory to masks in host memory. Each method is first compared with float32 torch. "
                "`error`: largest difference of the mean probability map. A method with too large an error is not timed."
            ),
        ),
        plot=Plot(f"Time against N, {side} px, S = {STEPS}", lambda: _paint(report.cells, side)),
        sections=(
            Section("Targets", (_targets(report.cells, side),)),
            Section("All sizes", (_figures(report),)),
        ),
    )


def _targets(cells: Sequence[Cell], side: int) -> str:
    medians = {(c.method, c.samples): c.p50 for c in cells if c.milliseconds and (c.side, c.steps) == (side, STEPS)}

    def ratio(slow: tuple[str, int], fast: tuple[str, int]) -> str:
        pair = medians.get(slow), medians.get(fast)
        return f"{pair[0] / pair[1]:.1f}" if pair[0] and pair[1] else "not run"

    ours = medians.get((RUNNER, 16))
    rows = [
        (f"{RUNNER}: 16 samples over one", "<= 1.5", ratio((RUNNER, 16), (RUNNER, 1))),
        (f"{SINGLE}, over {RUNNER}, 16 samples", ">= 10", ratio((SINGLE, 16), (RUNNER, 16))),
        (f"{BATCHED}, over {RUNNER}, 16 samples", ">= 2", ratio((BATCHED, 16), (RUNNER, 16))),
        (f"{RUNNER}: images/s, 16 samples", ">= 60", f"{1e3 / ours:.0f}" if ours else "not run"),
    ]
    return table((f"{side} px, S = {STEPS}", "target", "measured"), rows)


def _figures(report: Report) -> str:
    header = ("method", "type", "px", "N", "S", "error", "n", "p50 ms", "p90", "p99", "TFLOP/s", "of peak")
    return table(header, (tuple(_cells(report, cell)) for cell in report.cells))


def _cells(report: Report, cell: Cell) -> Iterator[str]:
    yield from (cell.method, cell.precision, str(cell.side), str(cell.samples), str(cell.steps))
    yield "" if cell.error is None else f"{cell.error:.1e}"
    if not cell.milliseconds:
        yield from ("0", cell.missing or "", "", "", "", "")
        return
    p50, p90, p99 = np.percentile(cell.milliseconds, (50, 90, 99))
    yield from (str(len(cell.milliseconds)), f"{p50:.2f}", f"{p90:.2f}")
    yield f"{p99:.2f}" if len(cell.milliseconds) >= 100 else "n < 100"
    yield from (f"{cell.teraflops:.2f}", f"{cell.teraflops / report.peaks[cell.precision]:.1%}")


def _paint(cells: Sequence[Cell], side: int) -> Picture:
    """Paint the median time against N, one line per method."""
    picture, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    shown = [cell for cell in cells if cell.milliseconds and (cell.side, cell.steps) == (side, STEPS)]
    for method in dict.fromkeys(cell.method for cell in shown):
        line = [cell for cell in shown if cell.method == method]
        axes.plot([cell.samples for cell in line], [cell.p50 for cell in line], marker="o", label=method)
    axes.set(xscale="log", yscale="log", xlabel="samples N", ylabel="milliseconds, median")
    if shown:
        axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    return picture
