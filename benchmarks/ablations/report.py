"""Everything an evaluation of the variants found, as one JSON file: what the page is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from benchmarks.ablations.train import Record
from benchmarks.json_record import JsonRecord
from benchmarks.latency.machine import Machine
from medseg_runtime.model.noise import NoiseLaw
from medseg_trainer.evaluation.statistics import Figure

SHOWN = {
    "ged": "GED",
    "hm_iou": "HM-IoU",
    "sample_diversity": "diversity",
    "empty_samples": "empty",
    "consensus_dice": "consensus Dice",
    "small_dice": "Dice < 20 px",
    "brier": "Brier",
    "ece": "ECE",
}
"""Figures of the page, by their names in `medseg_trainer.evaluation.statistics`, and what they are called there."""

Verdict = Literal["better", "worse", "no difference seen"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One variant at one number of sampling steps."""

    variant: str
    what: str
    steps: int
    noise: NoiseLaw
    training: Record
    trained_steps: int
    """Of the stage whose weights these are; 0: it was not trained here."""
    images: int
    """Per step."""
    masks: int
    """Per image and step."""
    learning_rate: float
    kept_step: int
    """Of the training, the step with the best GED on the validation images; 0 without one."""
    figures: dict[str, Figure]
    """By the keys of `SHOWN`."""
    difference: dict[str, Figure]
    """Less the reference at as many sampling steps, or else at its first number, on the same images; empty for the reference itself. ECE is no mean over images, and has none."""

    @property
    def title(self) -> str:
        """Return what the row is called."""
        return f"{self.variant}, S = {self.steps}"

    @property
    def verdict(self) -> Verdict | None:
        """Whether its GED is another than the reference's, by the interval of the difference; None for the reference."""
        if not self.difference:
            return None
        ged = self.difference["ged"]
        return "better" if ged.high < 0.0 else "worse" if ged.low > 0.0 else "no difference seen"


@dataclass(frozen=True, kw_only=True, slots=True)
class Report(JsonRecord):
    """One evaluation of several variants."""

    date: str
    command: str
    machine: Machine
    key: str
    """Of the study, and how its files' names begin."""
    about: str
    """What all rows share."""
    reference: str
    """The variant that the others are compared with."""
    model: str
    images: int
    groups: int
    samples: int
    seed: int
    raters: dict[str, Figure]
    """Diversity and share of empty masks among the raters: what a perfect model would have."""
    rows: tuple[Row, ...]

    @property
    def stem(self) -> str:
        """Name of its files, without the suffix."""
        return f"{self.key}_{self.model}_{self.date}"
