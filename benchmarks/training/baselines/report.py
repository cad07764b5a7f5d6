"""The record of one comparison with the baselines."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.common.page import Record
from benchmarks.training.baselines.masks import MaskComparison
from medseg_runtime.result.metrics import ReliabilityBin
from medseg_trainer.evaluation.statistics import Figure

MAP = "-map"
"""Suffix of a row's key: the row measures the probability map of the row before it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """How a model was trained."""

    command: str
    parameters: int
    steps: str
    augmentation: str
    cpu_minutes: float | None
    """Processor time, validation included; None: not recorded."""
    kept: str
    """Which weights are measured."""
    seed: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One model, measured."""

    key: str
    title: str
    samples: int
    training: Training
    figures: dict[str, Figure]
    reliability: tuple[ReliabilityBin, ...]
    ours_less: dict[str, Figure]
    """The preset `fast` in the same processor time, minus this row, image by image; empty for `fast` and the shipped model."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Report(Record):
    """One comparison."""

    model: str
    bundle_sha256: str
    split: str
    images: int
    patients: int
    seed: int
    rows: tuple[Row, ...]
    """The shipped model, then our presets in the same processor time, then the baselines."""
    masks: MaskComparison | None
    """None: `python -m benchmarks.training.baselines masks` has not run."""
