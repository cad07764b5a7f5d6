"""The record of one GPU run."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.common.page import Record
from benchmarks.gpu.measure import Cell


@dataclass(frozen=True, kw_only=True, slots=True)
class Report(Record):
    """One run."""

    device: str
    versions: dict[str, str]
    """Package => version, of the packages that matter on a GPU."""
    peaks: dict[str, float]
    """Precision => TFLOP/s of a large matrix product."""
    cells: tuple[Cell, ...]
