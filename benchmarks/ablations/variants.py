"""What a variant is, and the two studies they belong to: tuning one flow model, and the whole recipe from nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from benchmarks.ablations.distillation import Distillation
from medseg_runtime.model.bundle import Sampling
from medseg_trainer.config.run import EnergyConfig, Optimisation, TrainConfig

TrainedStage = Literal["denoiser", "energy", "distilled"]
"""The file of a run folder whose weights draw."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """One training with one thing changed."""

    what: str
    """What is done differently from the reference, for the page."""
    config: TrainConfig
    whole: bool = False
    """Every stage is trained, from nothing; otherwise shared weights of a flow model are tuned, or left as they are."""
    distillation: Distillation | None = None
    """How the flow model is distilled, in place of an `energy` stage."""
    steps: tuple[int, ...] = (1,)
    """Sampling steps that a tuned one is measured at."""

    @property
    def tuning(self) -> EnergyConfig | Distillation | None:
        """Settings of the last stage; None: the flow model is left as it is."""
        return self.config.energy or self.distillation

    @property
    def last_stage(self) -> TrainedStage:
        """The stage whose weights are the result."""
        return "distilled" if self.distillation is not None else self.config.last_stage

    def optimisation(self, stage: TrainedStage) -> Optimisation | None:
        """Return how the weights of a stage came about; None: not by this training."""
        if stage == "denoiser":
            return self.config.denoiser.optimisation if self.whole else None
        assert self.tuning is not None
        return self.tuning.optimisation

    def masks(self, stage: TrainedStage) -> int:
        """Return how many masks, or noisy latents, of each image a step of that stage takes; 0: it is not trained."""
        if stage == "denoiser":
            return self.config.denoiser.raters_per_image if self.whole else 0
        assert self.tuning is not None
        return self.tuning.samples

    @property
    def drawn(self) -> tuple[tuple[TrainedStage, Sampling], ...]:
        """The weights that are measured, and how they draw: of a whole training the flow model's too."""
        if self.whole:
            return ("denoiser", self.config.sampling), (self.last_stage, self.config.tuned_sampling)
        return tuple((self.last_stage, replace(self.config.tuned_sampling, steps=steps)) for steps in self.steps)


@dataclass(frozen=True, kw_only=True, slots=True)
class Study:
    """Variants that are compared with one of them."""

    key: str
    """Its files' name begins with this."""
    about: str
    """What all of them share, for the page."""
    reference: str
    variants: dict[str, Variant]
