"""benchmarks/gpu.md: figures of one run, with what they were taken on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.gpu.measure import Cell

SINGLE, BATCHED, RUNNER = "torch eager, sample by sample", "torch eager, batched", "TensorRT"


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """What a run was taken on."""

    date: str
    command: str
    device: str
    versions: dict[str, str]
    peaks: dict[str, float]
    """Precision -> TFLOP/s of a large matrix product."""
    seconds: float


def page(setting: Setting, cells: Sequence[Cell]) -> str:
    """Return the text."""
    versions = ", ".join(f"{name} {version}" for name, version in setting.versions.items())
    peaks = ", ".join(f"{precision} {peak:.1f}" for precision, peak in setting.peaks.items())
    how = (
        "From image and noise in host memory to masks in host memory. Networks with random weights. Each way was first held against "
        "float32 torch (`error`: of the mean probability map, at its worst pixel); one that is wrong is not timed."
    )
    on_what = (
        f"{setting.date}, {setting.device}; {versions}. Peak of a matrix product, TFLOP/s: {peaks}. "
        f"Taken in {setting.seconds:.0f} s by `{setting.command}`."
    )
    lines = [
        "# The sampling loop on a GPU",
        "",
        on_what,
        "",
        how,
        "",
        *_bars(cells),
        *_table(setting, cells),
    ]
    return "\n".join(lines) + "\n"


def _bars(cells: Sequence[Cell]) -> Iterator[str]:
    """Yield what the project holds its runner to, where both sides were measured."""
    medians = {(c.way, c.side, c.samples, c.steps): float(np.median(c.milliseconds)) for c in cells if c.milliseconds}
    largest = max(cell.side for cell in cells)

    def ratio(slow: tuple[str, int], fast: tuple[str, int]) -> str:
        pair = [medians.get((way, largest, samples, 4)) for way, samples in (slow, fast)]
        return f"{pair[0] / pair[1]:.1f}" if pair[0] and pair[1] else "not run"

    ours = medians.get((RUNNER, largest, 16, 4))
    yield f"| bar, {largest} px, S = 4 | wanted | measured |"
    yield "|---|---|---|"
    yield f"| {RUNNER}: 16 samples over one | <= 1.5 | {ratio((RUNNER, 16), (RUNNER, 1))} |"
    yield f"| {SINGLE}, over {RUNNER}, 16 samples | >= 10 | {ratio((SINGLE, 16), (RUNNER, 16))} |"
    yield f"| {BATCHED}, over {RUNNER}, 16 samples | >= 2 | {ratio((BATCHED, 16), (RUNNER, 16))} |"
    yield f"| {RUNNER}: images/s, 16 samples | >= 60 | {f'{1e3 / ours:.0f}' if ours else 'not run'} |"
    yield ""


def _table(setting: Setting, cells: Sequence[Cell]) -> Iterator[str]:
    yield "| way | type | px | N | S | error | n | p50 ms | p90 | p99 | TFLOP/s | of peak |"
    yield "|---|---|---|---|---|---|---|---|---|---|---|---|"
    for cell in cells:
        start = f"| {cell.way} | {cell.precision} | {cell.side} | {cell.samples} | {cell.steps} |"
        error = "" if cell.error is None else f"{cell.error:.1e}"
        if not cell.milliseconds:
            yield f"{start} {error} | 0 | {cell.missing} | | | | |"
            continue
        p50, p90, p99 = np.percentile(cell.milliseconds, (50, 90, 99))
        last = f"{p99:.2f}" if len(cell.milliseconds) >= 100 else "n < 100"
        share = cell.teraflops / setting.peaks[cell.precision]
        figures = f"{len(cell.milliseconds)} | {p50:.2f} | {p90:.2f} | {last} | {cell.teraflops:.2f} | {share:.1%}"
        yield f"{start} {error} | {figures} |"
