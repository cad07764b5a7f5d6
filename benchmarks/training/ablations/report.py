"""The record of one ablation study."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from benchmarks.common.page import Record
from benchmarks.training.ablations.train import TrainingRecord
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
"""Figures of the page: name in `medseg_trainer.evaluation.statistics` => column header."""

Verdict = Literal["better", "worse", "no difference seen"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One variant at one number of sampling steps."""

    variant: str
    what: str
    steps: int
    noise: NoiseLaw
    training: TrainingRecord
    trained_steps: int
    """Optimiser steps of the measured stage; 0: the stage was not trained here."""
    images: int
    """Per step."""
    masks: int
    """Per image and step."""
    learning_rate: float
    kept_step: int
    """Step with the best GED on the validation images; 0 if there is none."""
    figures: dict[str, Figure]
    """By the keys of `SHOWN`."""
    difference: dict[str, Figure]
    """This row minus the reference, on the same images. The reference has the same number of sampling steps if it was measured there,
    otherwise its first. Empty for the reference itself. ECE is not a mean over images and has no difference."""

    @property
    def title(self) -> str:
        """Name of the row."""
        return f"{self.variant}, S = {self.steps}"

    @property
    def verdict(self) -> Verdict | None:
        """Compare GED with the reference's, by the interval of the difference; None for the reference."""
        if not self.difference:
            return None
        ged = self.difference["ged"]
        return "better" if ged.high < 0.0 else "worse" if ged.low > 0.0 else "no difference seen"


@dataclass(frozen=True, kw_only=True, slots=True)
class Report(Record):
    """One evaluation of a study's variants."""

    key: str
    """Key of the study: the first part of the file names."""
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
    """Diversity and share of empty masks among the raters: the values of a perfect model."""
    rows: tuple[Row, ...]
