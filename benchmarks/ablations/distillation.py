"""Consistency distillation: the flow model's whole way from noise to mask, learnt as one call.

All points z_u on one path of the flow's differential equation end in the same clean latent; the consistency function f(z_u, u) is
that end (Song et al. 2023, arXiv 2303.01469, section 3). Between neighbouring levels u > u' of a sampler's table

    f(z_u, u) = f(z_u', u')        z_u' is one step of the teacher from z_u;  f(z_0, 0) = z_0

so the student at u is drawn to a follower, a moving average of itself, at u' (Algorithm 2). The student has the teacher's network and
its parametrisation, the clean latent: f(z, 0) is never asked of it, because the step to u' = 0 is its own answer. Hence sampling needs
nothing new: the first row of the usual table is one step. With more, Euler's table keeps the noise that z holds where Algorithm 1 draws anew.
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

Answer = Callable[[Tensor, Tensor], Tensor]
"""(noisy latents (N, Z, h, w), row of the table of each (N,)) => their clean latents (N, Z, h, w)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Distillation:
    """How the flow model is distilled."""

    optimisation: Optimisation
    samples: int = 8
    """Noisy latents per image and step, each of a random rater at a random level."""
    levels: int = 8
    """Steps of the teacher between noise and mask: its GED no longer falls much beyond."""
    follower_decay: float = 0.9
    """Of the moving average that the student is drawn to; what it learns at one level must reach the next `levels` times."""


def consistency_target(
    table: SamplerTable, noisy_NZhw: Tensor, row_N: Tensor, teacher: Answer, follower: Answer
) -> Tensor:
    """Return what f should be: the follower's answer after one step of the teacher; behind the last row, where that step ends.

    noisy: latents at the level of each one's row. The teacher's answer is taken as `denoised`: of networks that predict the clean latent.
    """
    a, b = torch.from_numpy(table.rows[:, 2:4]).to(noisy_NZhw)[row_N].T[..., None, None, None]
    ahead = a * noisy_NZhw + b * teacher(noisy_NZhw, row_N)
    last = len(table) - 1
    answer = follower(ahead, (row_N + 1).clamp(max=last))
    return torch.where((row_N == last)[:, None, None, None], ahead, answer)


def pseudo_huber(answer_NZhw: Tensor, target_NZhw: Tensor) -> Tensor:
    """sqrt(|x - y|^2 + c^2) - c, the mean over N: squared for small errors, and not led by a few large ones."""
    squared = (answer_NZhw - target_NZhw).square().flatten(1)
    c = HUBER * squared.shape[1] ** 0.5
    distance: Tensor = (squared.sum(dim=1) + c**2).sqrt() - c
    return distance.mean()


class Model(nn.Module):
    """Condition and denoiser as one function of image, noisy latents and rows of the table."""

    features: Tensor

    def __init__(self, condition: nn.Module, denoiser: nn.Module, features_ST: Tensor) -> None:
        super().__init__()
        self.condition, self.denoiser = condition, denoiser
        self.register_buffer("features", features_ST, persistent=False)

    def answer(self, image_BCHW: Tensor) -> Answer:
        """Return the network for the latents of these images, N / B of each in turn."""
        condition = self.condition(image_BCHW)
        return lambda noisy, row: self.denoiser(noisy, condition, self.features[row]).float()


class DistillationStage(nn.Module):
    """The student, and the follower that must be saved with it; condition and denoiser are tuned."""

    def __init__(self, config: TrainConfig, settings: Distillation, networks: Networks) -> None:
        super().__init__()
        assert config.path.prediction == "sample"
        self.table = sampler_table(config.path, config.sampling.sampler, settings.levels)
        features = torch.from_numpy(time_features(self.table.t, config.denoiser.time_features))
        device = next(networks.denoiser.parameters()).device
        condition = networks.condition.requires_grad_(config.condition.tuned)
        self.student = Model(condition, networks.denoiser, features.to(device))
        self.follower = copy.deepcopy(self.student).requires_grad_(False)
        self.decay = settings.follower_decay
        # in lists: they are no part of this stage's weights
        self._teacher = [copy.deepcopy(self.follower)]
        self._mask_autoencoder = [networks.mask_autoencoder.requires_grad_(False)]

    def forward(
        self, image_BCHW: Tensor, labels_BMHW: Tensor, noise_BMZhw: Tensor, row_BM: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of one batch, and its parts.

        labels: of one rater for each latent. row: of the table, 0 is pure noise.
        """
        row = row_BM.flatten()
        with torch.no_grad():
            self._follow()
            noisy = self._corrupt(
                self._mask_autoencoder[0].encode(labels_BMHW.flatten(0, 1)).float(), noise_BMZhw.flatten(0, 1), row
            )
            teacher, follower = self._teacher[0].answer(image_BCHW), self.follower.answer(image_BCHW)
            target = consistency_target(self.table, noisy, row, teacher, follower)
        loss = pseudo_huber(self.student.answer(image_BCHW)(noisy, row), target)
        return loss, {"consistency": loss}

    def _corrupt(self, latent_NZhw: Tensor, noise_NZhw: Tensor, row_N: Tensor) -> Tensor:
        """Clean latents => noisy ones at the levels of their rows."""
        u = torch.from_numpy(self.table.t / NUM_TRAIN_TIMESTEPS).to(latent_NZhw)[row_N][:, None, None, None]
        return (1.0 - u) * latent_NZhw + u * noise_NZhw

    def _follow(self) -> None:
        """Move the follower towards the student, which has taken a step since."""
        for behind, ahead in zip(self.follower.parameters(), self.student.parameters(), strict=True):
            behind.lerp_(ahead, 1.0 - self.decay)


def distillation_stage(
    config: TrainConfig, settings: Distillation, networks: Networks, validator: Validator | None
) -> Stage:
    """The finished denoiser and its condition, distilled to one step."""
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
        keep=students_weights,
        validate=lambda tensors, step: validate(students_weights(tensors), step),
        validate_every=config.validate_every,
    )


def with_repeats(labels_BRHW: Tensor, uniform_BM: Tensor) -> Tensor:
    """Pick the mask of a random rater for each of M latents, also of one rater more than once: (B, R, H, W) => (B, M, H, W)."""
    chosen = (uniform_BM * labels_BRHW.shape[1]).long()[:, :, None, None]
    return labels_BRHW.gather(1, chosen.expand(-1, -1, *labels_BRHW.shape[2:]))


def students_weights(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Keep what the student draws with, under the names that a run's other stages give it."""
    return {name.removeprefix("student."): tensor for name, tensor in tensors.items() if name.startswith("student.")}
