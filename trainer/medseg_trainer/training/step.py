"""One optimiser step: learning rate, random numbers, loss, gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from medseg_trainer.config.run import Optimisation
from medseg_trainer.data.working_set import Batch, BatchSource
from medseg_trainer.training.stages import Draws, Stage


def take_step(
    fabric: Fabric,
    stage: Stage,
    module: Any,
    optimiser: Any,
    batch: Batch,
    source: BatchSource,
    step: int,
) -> dict[str, Tensor]:
    """Do one optimiser step and return this process's loss and its parts.

    The random numbers follow from the source's seed and the step alone, so that a resumed run repeats them.

    module, optimiser: as Fabric wraps them.
    """
    settings = stage.optimisation
    for group in optimiser.param_groups:
        group["lr"] = learning_rate(settings, step)
    seed = int(np.random.SeedSequence((source.seed, 2, step)).generate_state(1, np.uint64)[0] >> 1)
    torch.manual_seed(seed + fabric.global_rank)  # for dropout, which takes no generator and differs between processes
    generator = torch.Generator(fabric.device).manual_seed(seed)
    draws = Draws(generator, settings.batch_size, source.rank, source.world_size)
    loss, parts = stage.losses(module, batch, draws)
    fabric.backward(loss)
    # in float16 the loss scaler skips steps whose gradients overflow
    scaled = fabric.strategy.precision.precision == "16-mixed"
    fabric.clip_gradients(module, optimiser, max_norm=settings.gradient_clip, error_if_nonfinite=not scaled)
    optimiser.step()
    optimiser.zero_grad()
    return {name: part.detach() for name, part in {"loss": loss, **parts}.items()}


def learning_rate(settings: Optimisation, step: int) -> float:
    """Return the learning rate of a step, from 0: linear warm-up, then half a cosine down to zero."""
    warm = min(1.0, (step + 1) / settings.warmup_steps) if settings.warmup_steps else 1.0
    return settings.learning_rate * warm * 0.5 * (1.0 + float(np.cos(np.pi * step / settings.steps)))
