"""The grid's part of the page: by N and S, by stage, by number of threads."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.latency.grid import Cell
from benchmarks.latency.report import Report
from benchmarks.tables import ms, table

FIGURES = ("n", "min ms", "p50", "p90", "p95", "floor ms", "p50 over floor")


def grid_sections(report: Report) -> tuple[str, ...]:
    """Return three sections."""
    cores = max(cell.threads for cell in report.cells)
    whole = [cell for cell in report.cells if cell.stage == "end to end"]
    stages = [cell for cell in report.cells if cell.stage != "end to end"]
    return (
        f"## One thread and all {cores}\n\nEnd to end, p50, where both were measured.\n\n{_threads(report, whole, cores)}",
        "## By number of samples and steps, warm, end to end\n\n" + _cells(report, whole),
        "## By stage, warm\n\nOne denoiser step at a time.\n\n" + _cells(report, stages),
    )


def _threads(report: Report, cells: list[Cell], cores: int) -> str:
    def rows() -> Iterator[tuple[str, ...]]:
        with_all = {_named(cell): cell for cell in cells if cell.threads == cores > 1}
        for one in (cell for cell in cells if cell.threads == 1):
            many = with_all.get(_named(one))
            if many is not None:
                gain = one.timing.p50 / many.timing.p50
                yield (
                    *_named(one),
                    ms(one.timing.p50),
                    ms(many.timing.p50),
                    f"{gain:.2f}x",
                    _floor(report, one),
                    _floor(report, many),
                )

    header = (
        "bundle",
        "engine",
        "N",
        "S",
        "1 thread, ms",
        f"{cores} threads, ms",
        "gain",
        "1 thread over its floor",
        f"{cores} over theirs",
    )
    return table(header, rows())


def _cells(report: Report, cells: list[Cell]) -> str:
    rows = []
    for cell in cells:
        floor = report.peak(cell.precision, cell.threads).floor_ms(cell.multiplications)
        timing = cell.timing
        rows.append((
            *_named(cell), cell.stage, str(cell.threads), str(timing.n),
            *(ms(value) for value in (timing.min, timing.p50, timing.p90, timing.p95, floor)), _floor(report, cell),
        ))  # fmt: skip
    return table(("bundle", "engine", "N", "S", "what", "threads", *FIGURES), rows)


def _named(cell: Cell) -> tuple[str, str, str, str]:
    return cell.bundle, f"{cell.backend} {cell.precision}", str(cell.samples), str(cell.steps) if cell.steps else "-"


def _floor(report: Report, cell: Cell) -> str:
    return f"{cell.timing.p50 / report.peak(cell.precision, cell.threads).floor_ms(cell.multiplications):.2f}x"
