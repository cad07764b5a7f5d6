"""Markdown tables, and how numbers are written in them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from medseg_runtime.model.noise import NoiseLaw

if TYPE_CHECKING:
    from medseg_trainer.evaluation.statistics import Figure


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def count_of(number: int, noun: str) -> str:
    """Return a count and its noun, singular or plural."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def format_ms(milliseconds: float) -> str:
    """Return milliseconds with about three significant digits."""
    return (
        f"{milliseconds:,.0f}"
        if milliseconds >= 100
        else f"{milliseconds:.1f}"
        if milliseconds >= 10
        else f"{milliseconds:.2f}"
    )


def format_interval(figure: Figure | None, sign: str = "") -> str:
    """Return a mean and its interval; an empty string for None. sign: `+` writes the sign of positive numbers."""
    if figure is None:
        return ""
    return f"{figure.mean:{sign}.4f} ({figure.low:{sign}.3f} to {figure.high:{sign}.3f})"


def noise_name(noise: NoiseLaw) -> str:
    """Return the name of a noise law in tables."""
    if noise.stratified:
        return f"stratified {noise.stratified:.0%}"
    return "antithetic" if noise.antithetic else "independent"
