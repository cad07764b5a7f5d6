"""Everything a comparison measured, as one JSON file: what the page is made of."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.baselines.masks import MaskContest
from benchmarks.json_record import JsonRecord
from benchmarks.latency.machine import Machine
from medseg_runtime.result.metrics import ReliabilityBin
from medseg_trainer.evaluation.statistics import Figure

MAP = "-map"
"""Ends the key of a row that is the probability map of the row before it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """What a model cost."""

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
    """One way to answer, measured."""

    key: str
    title: str
    samples: int
    training: Training
    figures: dict[str, Figure]
    reliability: tuple[ReliabilityBin, ...]
    ours_less: dict[str, Figure]
    """The figures of our own recipe in the same time less these, image by image; empty in our own rows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Report(JsonRecord):
    """One comparison."""

    date: str
    command: str
    seconds: float
    machine: Machine
    model: str
    bundle_sha256: str
    split: str
    images: int
    patients: int
    seed: int
    rows: tuple[Row, ...]
    """The shipped model first, then our own recipe in the same time."""
    masks: MaskContest | None
    """None where `python -m benchmarks.baselines masks` has not been run."""

    @property
    def stem(self) -> str:
        """Name of its files, without the suffix."""
        return f"baselines_{self.model}_{self.date}"
