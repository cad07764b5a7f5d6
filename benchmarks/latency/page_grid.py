"""Sections of a latency page: the grid by threads, by N and S, and by stage."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.common.page import Section
from benchmarks.common.tables import format_ms, table
from benchmarks.latency.grid import Cell
from benchmarks.latency.report import Report


def grid_sections(report: Report) -> tuple[Section, ...]:
    """Return the three sections."""
    cores = max(cell.threads for cell in report.cells)
    whole = [cell for cell in report.cells if cell.stage == "end to end"]
    stages = [cell for cell in report.cells if cell.stage != "end to end"]
    return (
        Section(
            f"One thread and all {cores}",
            ("End to end, p50, where both were measured.", _threads(report, whole, cores)),
        ),
        Section("By number of samples and steps, warm, end to end", (_cells(report, whole),)),
        Section("By stage, warm", ("One denoiser step at a time.", _cells(report, stages))),
    )


def _threads(report: Report, cells: list[Cell], cores: int) -> str:
    def rows() -> Iterator[tuple[str, ...]]:
        with_all = {_name(cell): cell for cell in cells if cell.threads == cores > 1}
        for one in (cell for cell in cells if cell.threads == 1):
            many = with_all.get(_name(one))
            if many is not None:
                yield (
                    *_name(one),
                    format_ms(one.timing.p50),
                    format_ms(many.timing.p50),
                    f"{one.timing.p50 / many.timing.p50:.2f}x",
                    _over_floor(report, one),
                    _over_floor(report, many),
                )

    header = (
        "bundle",
        "backend",
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
    rows = [
        (
            *_name(cell),
            cell.stage,
            str(cell.threads),
            *cell.timing.cells(),
            format_ms(_floor_ms(report, cell)),
            _over_floor(report, cell),
        )
        for cell in cells
    ]
    timing = ("n", "min ms", "p50", "p90", "p95")
    return table(("bundle", "backend", "N", "S", "what", "threads", *timing, "floor ms", "p50 over floor"), rows)


def _name(cell: Cell) -> tuple[str, str, str, str]:
    return cell.bundle, f"{cell.backend} {cell.precision}", str(cell.samples), str(cell.steps) if cell.steps else "-"


def _floor_ms(report: Report, cell: Cell) -> float:
    return report.peak(cell.precision, cell.threads).floor_ms(cell.multiplications)


def _over_floor(report: Report, cell: Cell) -> str:
    return f"{cell.timing.p50 / _floor_ms(report, cell):.2f}x"
