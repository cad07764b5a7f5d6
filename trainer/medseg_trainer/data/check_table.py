"""What `check` and `split` print."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from medseg_trainer.data.check import Report, SplitFigures
from medseg_trainer.data.split import SplitTable


def print_report(report: Report) -> None:
    """Print the figures of each split, then problems and warnings, one a line."""
    shares = [f"{name or 'foreground'}" for name in report.classes]
    table = Table("split", "images", "groups", "sizes", "raters", "empty", *shares)
    for name, figures in report.splits.items():
        if figures.images:
            table.add_row(name, *_row(figures))
    console = Console()
    console.print(f"{report.layout}{f', {report.masks}' if report.masks else ''}", markup=False, highlight=False)
    console.print(table)
    for title, lines in (("problem", report.problems), ("warning", report.warnings)):
        for line in lines:
            console.print(f"{title}: {line}", markup=False, highlight=False, soft_wrap=True)


def print_split(table: SplitTable) -> None:
    """Print what is in each split, then warnings."""
    console, shown = Console(), Table("split", "images", "groups")
    for split, (images, groups) in table.counts().items():
        shown.add_row(split, f"{images:,}", f"{groups:,}")
    console.print(shown)
    console.print(f"grouped by {table.grouped_by}", markup=False, highlight=False, soft_wrap=True)
    for warning in table.warnings:
        console.print(f"warning: {warning}", markup=False, highlight=False, soft_wrap=True)


def _row(figures: SplitFigures) -> list[str]:
    common = [size for size, _ in figures.sizes.most_common(2)]
    further = len(figures.sizes) - len(common)
    return [
        f"{figures.images:,}",
        f"{len(figures.groups):,}",
        ", ".join(common) + (f" and {further} more" if further else ""),
        ", ".join(map(str, sorted(figures.raters))),
        f"{figures.empty:,}",
        *(f"{share:.1%}" for share in figures.mean_shares),
    ]
