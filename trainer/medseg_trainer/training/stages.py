"""The stages of a training: modules, losses, random numbers and validation.

Shape suffixes: B batch, R raters, H W pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from medseg_runtime.model.bundle import Sampling
from medseg_trainer.config.run import AutoencoderConfig, EnergyConfig, Optimisation, TrainConfig
from medseg_trainer.data.working_set import Batch
from medseg_trainer.models.autoencoder import ImageAutoencoder, MaskAutoencoder
from medseg_trainer.models.build import build_networks
from medseg_trainer.models.graphs import Networks
from medseg_trainer.objectives.diffusion import DenoiserStage
from medseg_trainer.objectives.energy import BLOCK, EnergyStage, starting_noise
from medseg_trainer.training.validation import Validator

Losses = tuple[Tensor, dict[str, Tensor]]


@dataclass(frozen=True, slots=True)
class Draws:
    """The random numbers of one step. Each process draws those of the whole batch and takes its part."""

    generator: torch.Generator
    batch_size: int
    rank: int
    world_size: int

    def normal(self, *shape: int) -> Tensor:
        """Return standard normal numbers, (B, *shape), on the generator's device; B is this process's part of the batch."""
        whole = torch.randn((self.batch_size, *shape), generator=self.generator, device=self.generator.device)
        return whole[self.rank :: self.world_size]

    def uniform(self, *shape: int) -> Tensor:
        """Return uniform numbers in [0, 1); see `normal`."""
        whole = torch.rand((self.batch_size, *shape), generator=self.generator, device=self.generator.device)
        return whole[self.rank :: self.world_size]


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """What the loop needs to train one stage."""

    name: str
    module: nn.Module
    optimisation: Optimisation
    losses: Callable[[nn.Module, Batch, Draws], Losses]
    """(module as Fabric wraps it, batch, random numbers) -> loss, and its parts by name."""
    keep: Callable[[dict[str, Tensor]], dict[str, Tensor]] = dict
    """EMA weights -> those to write."""
    validate: Callable[[dict[str, Tensor], int], dict[str, float]] | None = None
    """(EMA weights, step) -> metrics; the weights with the lowest `ged` are kept. None: the last weights are kept."""
    validate_every: int = 0


def mask_stage(config: TrainConfig, module: MaskAutoencoder) -> Stage:
    """Return the stage of the mask autoencoder. A step uses one random rater per image."""
    noise_level = config.mask_autoencoder.latent_noise

    def losses(module: nn.Module, batch: Batch, draws: Draws) -> Losses:
        labels = random_raters(batch.labels, draws, 1)[:, 0]
        out: Losses = module(labels, draws.normal(*config.latent), noise_level * draws.uniform())
        return out

    return Stage(
        name="mask_autoencoder", module=module, optimisation=config.mask_autoencoder.optimisation, losses=losses
    )


def image_stage(settings: AutoencoderConfig, config: TrainConfig, module: ImageAutoencoder) -> Stage:
    """Return the stage of the image autoencoder."""
    _, height, width = config.latent

    def losses(module: nn.Module, batch: Batch, draws: Draws) -> Losses:
        out: Losses = module(batch.image, draws.normal(settings.latent_channels, height, width))
        return out

    return Stage(name="image_autoencoder", module=module, optimisation=settings.optimisation, losses=losses)


def denoiser_stage(
    config: TrainConfig, autoencoder: MaskAutoencoder, condition: nn.Module, validator: Validator | None
) -> Stage:
    """Return the stage of the denoiser, and of the condition if it is tuned."""
    module = DenoiserStage(config, autoencoder, condition)
    raters = config.denoiser.raters_per_image

    def losses(module: nn.Module, batch: Batch, draws: Draws) -> Losses:
        labels = random_raters(batch.labels, draws, raters)
        noise = draws.normal(raters, *config.latent).flatten(0, 1)
        out: Losses = module(batch.image, labels, noise, draws.normal(raters).flatten())
        return out

    return Stage(
        name="denoiser",
        module=module,
        optimisation=config.denoiser.optimisation,
        losses=losses,
        keep=_without_auxiliary,
        validate=validation(config, config.sampling, autoencoder, validator, ""),
        validate_every=config.validate_every,
    )


def energy_stage(config: TrainConfig, settings: EnergyConfig, networks: Networks, validator: Validator | None) -> Stage:
    """Return the stage that tunes the trained denoiser and its condition to sample in few steps."""

    def losses(module: nn.Module, batch: Batch, draws: Draws) -> Losses:
        noise = starting_noise(
            settings.noise,
            draws.normal(settings.samples, *config.latent),
            draws.uniform(config.latent[0]),
            draws.uniform(BLOCK),
        )
        out: Losses = module(batch.image, batch.labels, noise)
        return out

    return Stage(
        name="energy",
        module=EnergyStage(config, settings, networks),
        optimisation=settings.optimisation,
        losses=losses,
        validate=validation(config, config.tuned_sampling, networks.mask_autoencoder, validator, "energy-"),
        validate_every=config.validate_every,
    )


def _without_auxiliary(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in tensors.items() if not name.startswith("auxiliary")}


def validation(
    config: TrainConfig, sampling: Sampling, autoencoder: MaskAutoencoder, validator: Validator | None, prefix: str
) -> Callable[[dict[str, Tensor], int], dict[str, float]]:
    """Return a function that validates weights and renders a sheet named after the prefix and the step."""

    def validate(tensors: dict[str, Tensor], step: int) -> dict[str, float]:
        assert validator is not None
        networks = build_networks(config)
        modules = nn.ModuleDict({"condition": networks.condition, "denoiser": networks.denoiser})
        modules.load_state_dict(_without_auxiliary(tensors))
        device = next(autoencoder.parameters()).device
        trained = Networks(networks.condition.to(device), networks.denoiser.to(device), autoencoder)
        return validator(trained, sampling, f"{prefix}{step:06d}")

    return validate


def random_raters(labels_BRHW: Tensor, draws: Draws, count: int) -> Tensor:
    """Pick `count` different raters of each image: (B, R, H, W) => (B, count, H, W)."""
    order = draws.uniform(labels_BRHW.shape[1]).argsort(dim=1)[:, :count]
    return torch.gather(labels_BRHW, 1, order[:, :, None, None].expand(-1, -1, *labels_BRHW.shape[2:]))


@torch.no_grad()
def set_latent_scale(autoencoder: MaskAutoencoder, batch: Batch) -> None:
    """Set the scale of latents so that the cells with mask pixels have unit mean square."""
    labels = batch.labels.flatten(0, 1).to(autoencoder.latent_scale.device)
    autoencoder.latent_scale.fill_(1.0)
    latent = autoencoder.encode(labels)
    marked = nn.functional.max_pool2d((labels > 0).float()[:, None], autoencoder.config.factor)
    mean_square = (latent.square() * marked).sum() / (marked.sum() * latent.shape[1]).clamp_min(1.0)
    autoencoder.latent_scale.copy_(mean_square.clamp_min(1e-8).rsqrt())
