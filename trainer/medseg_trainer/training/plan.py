"""The stages of a run, in order. A further objective is one more entry of `plan`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from medseg_trainer.config.run import Optimisation, TrainConfig
from medseg_trainer.data.working_set import Batch
from medseg_trainer.models.autoencoder import ImageAutoencoder, MaskAutoencoder
from medseg_trainer.models.build import build_condition, build_mask_autoencoder
from medseg_trainer.models.condition import AutoencoderCondition
from medseg_trainer.training.run_folder import RunFolder
from medseg_trainer.training.stages import (
    Stage,
    denoiser_stage,
    energy_stage,
    image_stage,
    mask_stage,
    set_latent_scale,
)
from medseg_trainer.training.validation import Validator


@dataclass(frozen=True, kw_only=True, slots=True)
class Context:
    """What all stages of a run are built from. Weights of earlier stages are read from the run folder."""

    config: TrainConfig
    run: RunFolder
    device: torch.device
    class_weight: Tensor
    """(classes + 1,), background first."""
    validator: Validator | None
    """None on all processes but the first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedStage:
    """A stage that has not been built: its networks take the weights of earlier stages, which must be trained by then."""

    batch_seed: int
    """Seeds the order and augmentation of the batches. Do not change the number of a stage: its weights would change."""
    optimisation: Optimisation
    build: Callable[[Context], Stage]
    """Called after `torch.manual_seed(config.seed)`, which initial weights depend on."""
    finish: Callable[[Context, Batch], None] | None = None
    """Called in the first process after training, with the whole first batch of the stage."""


def plan(config: TrainConfig) -> list[PlannedStage]:
    """Return the stages of a run."""
    autoencoder = config.mask_autoencoder
    stages = [
        PlannedStage(
            batch_seed=1,
            optimisation=autoencoder.optimisation,
            build=_mask_autoencoder,
            finish=_scale_latents if autoencoder.regulariser != "sphere" else None,
        )
    ]
    if config.condition.autoencoder is not None:
        optimisation = config.condition.autoencoder.optimisation
        stages.append(PlannedStage(batch_seed=2, optimisation=optimisation, build=_image_autoencoder))
    stages.append(PlannedStage(batch_seed=3, optimisation=config.denoiser.optimisation, build=_denoiser))
    if config.energy is not None:
        stages.append(PlannedStage(batch_seed=4, optimisation=config.energy.optimisation, build=_energy))
    return stages


def _mask_autoencoder(context: Context) -> Stage:
    module = build_mask_autoencoder(context.config)
    module.class_weight.copy_(context.class_weight)
    return mask_stage(context.config, module)


def _scale_latents(context: Context, batch: Batch) -> None:
    module = _trained_mask_autoencoder(context)
    set_latent_scale(module, batch)
    context.run.save_weights("mask_autoencoder", module.state_dict(), {})


def _image_autoencoder(context: Context) -> Stage:
    config, settings = context.config, context.config.condition.autoencoder
    assert settings is not None
    build_condition(config)  # takes the first random numbers: the initial weights have always been those after them
    return image_stage(settings, config, ImageAutoencoder(settings, config.input.channels))


def _denoiser(context: Context) -> Stage:
    config = context.config
    condition = build_condition(config)
    if config.condition.autoencoder is not None:
        image_autoencoder = ImageAutoencoder(config.condition.autoencoder, config.input.channels)
        context.run.load_weights("image_autoencoder", image_autoencoder)
        condition = AutoencoderCondition(image_autoencoder)
    mask_autoencoder = _trained_mask_autoencoder(context)
    torch.manual_seed(config.seed)  # the denoiser's initial weights do not depend on what was built before
    return denoiser_stage(config, mask_autoencoder, condition, context.validator)


def _energy(context: Context) -> Stage:
    assert context.config.energy is not None
    networks = context.run.networks("denoiser").to(context.device)
    return energy_stage(context.config, context.config.energy, networks, context.validator)


def _trained_mask_autoencoder(context: Context) -> MaskAutoencoder:
    module = build_mask_autoencoder(context.config)
    context.run.load_weights("mask_autoencoder", module)
    return module.to(context.device)
