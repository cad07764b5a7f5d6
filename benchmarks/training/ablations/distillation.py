"""Consistency distillation: learn the flow model's path from noise to mask as one call.

All points z_u on one path of the flow's differential equation end in the same clean latent. The consistency function f(z_u, u) returns
this end (Song et al. 2023, arXiv 2303.01469, section 3). Between neighbouring levels u > u' of a sampler's table

    f(z_u, u) = f(z_u', u')        z_u' is one step of the teacher from z_u;  f(z_0, 0) = z_0

so the student at u is trained towards its target network, a moving average of the student, at u' (Algorithm 2). Student and teacher share
architecture and parametrization: both predict the clean latent. At u' = 0 the target is the result of the teacher's step, so the student
is never evaluated there. Sampling in one step uses the first row of the usual table. With more steps, Euler's table keeps the noise of z
where Algorithm 1 draws new noise.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from medseg_runtime.model.sampler import NUM_TRAIN_TIMESTEPS, SamplerTable, sampler_table, time_features
from medseg_trainer.config.run import Optimisation, TrainConfig
from medseg_trainer.data.working_set import Batch
from medseg_trainer.models.graphs import Networks
from medseg_trainer.training.stages import Draws, Losses, Stage, validation
from medseg_trainer.training.validation import Validator

HUBER = 0.00054
"""c / sqrt(d) of the pseudo-Huber distance (Song & Dhariwal 2024, arXiv 2310.14189, section 3.3)."""

Prediction = Callable[[Tensor, Tensor], Tensor]
"""(noisy latents (N, Z, h, w), their rows of the table (N,)) => clean latents (N, Z, h, w)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Distillation:
    """How the flow model is distilled."""

    optimisation: Optimisation
    samples: int = 8
    """Noisy latents per image and step, each of a random rater at a random level."""
    levels: int = 8
    """Steps of the teacher from noise to mask; with more, its GED hardly improves."""
    target_decay: float = 0.9
    """Decay of the moving average. Short, because what is learned at one level must pass through all `levels`."""


def consistency_target(
    table: SamplerTable, noisy_NZhw: Tensor, row_N: Tensor, teacher: Prediction, target: Prediction
) -> Tensor:
    """Return the training target of f: the target network's prediction after one step of the teacher.

    After the last row the target is the result of that step. noisy: latents at the levels of their rows. Teacher and target network
    predict the clean latent.
    """
    a, b = torch.from_numpy(table.rows[:, 2:4]).to(noisy_NZhw)[row_N].T[..., None, None, None]
    ahead = a * noisy_NZhw + b * teacher(noisy_NZhw, row_N)
    last = len(table) - 1
    predicted = target(ahead, (row_N + 1).clamp(max=last))
    return torch.where((row_N == last)[:, None, None, None], ahead, predicted)


def pseudo_huber(predicted_NZhw: Tensor, target_NZhw: Tensor) -> Tensor:
    """Return sqrt(|x - y|^2 + c^2) - c, averaged over N: quadratic for small errors, linear for large ones."""
    squared = (predicted_NZhw - target_NZhw).square().flatten(1)
    c = HUBER * squared.shape[1] ** 0.5
    distance: Tensor = (squared.sum(dim=1) + c**2).sqrt() - c
    return distance.mean()


class Model(nn.Module):
    """Condition network and denoiser as one function of image, noisy latents and rows of the table."""

    features: Tensor

    def __init__(self, condition: nn.Module, denoiser: nn.Module, features_ST: Tensor) -> None:
        super().__init__()
        self.condition, self.denoiser = condition, denoiser
        self.register_buffer("features", features_ST, persistent=False)

    def prediction(self, image_BCHW: Tensor) -> Prediction:
        """Return the denoiser, conditioned on images; N / B successive latents belong to each."""
        condition = self.condition(image_BCHW)
        return lambda noisy, row: self.denoiser(noisy, condition, self.features[row]).float()


class DistillationStage(nn.Module):
    """Student and target network; condition and denoiser of the student are trained."""

    def __init__(self, config: TrainConfig, settings: Distillation, networks: Networks) -> None:
        super().__init__()
        assert config.path.prediction == "sample"
        self.table = sampler_table(config.path, config.sampling.sampler, settings.levels)
        features = torch.from_numpy(time_features(self.table.t, config.denoiser.time_features))
        device = next(networks.denoiser.parameters()).device
        condition = networks.condition.requires_grad_(config.condition.tuned)
        self.student = Model(condition, networks.denoiser, features.to(device))
        self.target = copy.deepcopy(self.student).requires_grad_(False)
        self.decay = settings.target_decay
        # in lists, so that their weights are not saved with this stage
        self._teacher = [copy.deepcopy(self.target)]
        self._mask_autoencoder = [networks.mask_autoencoder.requires_grad_(False)]

    def forward(
        self, image_BCHW: Tensor, labels_BMHW: Tensor, noise_BMZhw: Tensor, row_BM: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of one batch and its parts.

        labels: one rater's mask for each latent. row: of the table; 0 is pure noise.
        """
        row = row_BM.flatten()
        with torch.no_grad():
            self._update_target()
            noisy = self._corrupt(
                self._mask_autoencoder[0].encode(labels_BMHW.flatten(0, 1)).float(), noise_BMZhw.flatten(0, 1), row
            )
            teacher, target = self._teacher[0].prediction(image_BCHW), self.target.prediction(image_BCHW)
            wanted = consistency_target(self.table, noisy, row, teacher, target)
        loss = pseudo_huber(self.student.prediction(image_BCHW)(noisy, row), wanted)
        return loss, {"consistency": loss}

    def _corrupt(self, latent_NZhw: Tensor, noise_NZhw: Tensor, row_N: Tensor) -> Tensor:
        """Add noise to clean latents, at the levels of their rows."""
        u = torch.from_numpy(self.table.t / NUM_TRAIN_TIMESTEPS).to(latent_NZhw)[row_N][:, None, None, None]
        return (1.0 - u) * latent_NZhw + u * noise_NZhw

    def _update_target(self) -> None:
        """Update the moving average with the student's last step."""
        for average, current in zip(self.target.parameters(), self.student.parameters(), strict=True):
            average.lerp_(current, 1.0 - self.decay)


def distillation_stage(
    config: TrainConfig, settings: Distillation, networks: Networks, validator: Validator | None
) -> Stage:
    """Return the stage that distils a trained denoiser and its condition network to one step."""
    validate = validation(config, replace(config.sampling, steps=1), networks.mask_autoencoder, validator, "distilled-")

    def losses(module: nn.Module, batch: Batch, draws: Draws) -> Losses:
        labels = with_repeats(batch.labels, draws.uniform(settings.samples))
        row = (draws.uniform(settings.samples) * settings.levels).long()
        out: Losses = module(batch.image, labels, draws.normal(settings.samples, *config.latent), row)
        return out

    return Stage(
        name="distilled",
        module=DistillationStage(config, settings, networks),
        optimisation=settings.optimisation,
        losses=losses,
        keep=student_weights,
        validate=lambda tensors, step: validate(student_weights(tensors), step),
        validate_every=config.validate_every,
    )


def with_repeats(labels_BRHW: Tensor, uniform_BM: Tensor) -> Tensor:
    """Pick the mask of a random rater for each of M latents, with repetition: (B, R, H, W) => (B, M, H, W)."""
    chosen = (uniform_BM * labels_BRHW.shape[1]).long()[:, :, None, None]
    return labels_BRHW.gather(1, chosen.expand(-1, -1, *labels_BRHW.shape[2:]))


def student_weights(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights that the student samples with, by the names that other stages use."""
    return {name.removeprefix("student."): tensor for name, tensor in tensors.items() if name.startswith("student.")}
