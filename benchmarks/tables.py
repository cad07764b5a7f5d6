"""Markdown tables and how numbers are written in them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from medseg_trainer.evaluation.statistics import Figure


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def counted(number: int, noun: str) -> str:
    """Write a number of things."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def ms(milliseconds: float) -> str:
    """Write milliseconds with three digits that mean something."""
    return (
        f"{milliseconds:,.0f}"
        if milliseconds >= 100
        else f"{milliseconds:.1f}"
        if milliseconds >= 10
        else f"{milliseconds:.2f}"
    )


def with_interval(figure: Figure | None, sign: str = "") -> str:
    """Write a mean and its interval; nothing where there is none."""
    if figure is None:
        return ""
    return f"{figure.mean:{sign}.4f} ({figure.low:{sign}.3f} to {figure.high:{sign}.3f})"
