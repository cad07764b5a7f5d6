"""Variants, each a training with one setting changed, and studies, which compare them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from benchmarks.training.ablations.distillation import Distillation
from medseg_runtime.model.bundle import Sampling
from medseg_trainer.config.run import EnergyConfig, Optimisation, TrainConfig

TrainedStage = Literal["denoiser", "energy", "distilled"]
"""Stage whose weights are measured; stem of their file in a run folder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """One training with one setting changed."""

    what: str
    """The change, as the page describes it."""
    config: TrainConfig
    whole: bool = False
    """Train every stage from scratch. Otherwise tune the shared weights of a flow model, or measure them unchanged."""
    distillation: Distillation | None = None
    """Distil the flow model instead of tuning it by an `energy` stage."""
    steps: tuple[int, ...] = (1,)
    """Numbers of sampling steps at which a tuned variant is measured."""

    @property
    def tuning(self) -> EnergyConfig | Distillation | None:
        """Settings of the last stage; None: the flow model is not tuned."""
        return self.config.energy or self.distillation

    @property
    def last_stage(self) -> TrainedStage:
        """The last trained stage."""
        return "distilled" if self.distillation is not None else self.config.last_stage

    def optimisation(self, stage: TrainedStage) -> Optimisation | None:
        """Return the optimisation of a stage; None: this training does not train it."""
        if stage == "denoiser":
            return self.config.denoiser.optimisation if self.whole else None
        assert self.tuning is not None
        return self.tuning.optimisation

    def masks(self, stage: TrainedStage) -> int:
        """Return how many masks or noisy latents of each image a step of a stage takes; 0: the stage is not trained."""
        if stage == "denoiser":
            return self.config.denoiser.raters_per_image if self.whole else 0
        assert self.tuning is not None
        return self.tuning.samples

    @property
    def measured(self) -> tuple[tuple[TrainedStage, Sampling], ...]:
        """Stages to measure and their sampling. A training from scratch is measured before and after tuning."""
        if self.whole:
            return ("denoiser", self.config.sampling), (self.last_stage, self.config.tuned_sampling)
        return tuple((self.last_stage, replace(self.config.tuned_sampling, steps=steps)) for steps in self.steps)


@dataclass(frozen=True, kw_only=True, slots=True)
class Study:
    """Variants, compared with one of them."""

    key: str
    """First part of the file names."""
    about: str
    """What all variants share, as the page describes it."""
    reference: str
    variants: dict[str, Variant]
