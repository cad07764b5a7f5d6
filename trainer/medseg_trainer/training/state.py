"""The state of a stage: how far it is, and its weights, EMA and optimiser moments as tensors with names."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from medseg_runtime.errors import CheckpointError
from medseg_trainer.training.ema import Ema
from medseg_trainer.training.run_files import AGAIN
from medseg_trainer.training.tensor_check import check_tensors


@dataclass(kw_only=True, slots=True)
class StageProgress:
    """How far a stage is."""

    step: int = 0
    """Optimiser steps taken."""
    best: float | None = None
    """Lowest GED so far; None before the first validation."""

    def __post_init__(self) -> None:
        if self.step < 0 or not math.isfinite(self.best or 0.0):
            raise ValueError("the step is negative, or the best GED is not finite")


def state_tensors(module: nn.Module, ema: Ema, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return all tensors of a stage, named model.*, ema.* and optimiser.<parameter>.<moment>."""
    tensors = {f"model.{name}": tensor for name, tensor in module.state_dict().items()}
    tensors |= {f"ema.{name}": tensor for name, tensor in ema.tensors.items()}
    for index, moments in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{name}": torch.as_tensor(value) for name, value in moments.items()}
    return tensors


def restore_state(
    tensors: dict[str, Tensor], module: nn.Module, ema: Ema, optimiser: torch.optim.Optimizer, file: str
) -> None:
    """Load what `state_tensors` returned; file: where it is from, for messages.

    Raises:
        CheckpointError: the tensors are those of other networks, or damaged.
    """
    weights = module.state_dict()
    expected = {f"model.{name}": tensor for name, tensor in weights.items()}
    expected |= {f"ema.{name}": tensor for name, tensor in ema.tensors.items()}
    check_tensors(tensors, expected | _expected_moments(tensors, optimiser), file, AGAIN)
    moments: dict[int, dict[str, Tensor]] = {}
    for name in tensors.keys() - expected.keys():
        _, index, moment = name.split(".")
        moments.setdefault(int(index), {})[moment] = tensors[name]
        if moment != "exp_avg" and (tensors[name] < 0).any():
            raise CheckpointError(f"{file} holds impossible moments of the optimiser", AGAIN)
    module.load_state_dict({name: tensors[f"model.{name}"] for name in weights})
    for name, average in ema.tensors.items():
        average.copy_(tensors[f"ema.{name}"])
    optimiser.load_state_dict(optimiser.state_dict() | {"state": moments})


def _expected_moments(found: Collection[str], optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return tensors like the moments of AdamW. A parameter that never had a gradient has none; one of them has."""
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    moved = {name.split(".")[1] for name in found if name.startswith("optimiser.")} or {"0"}
    return {
        f"optimiser.{index}.{moment}": like
        for index, parameter in enumerate(parameters)
        if str(index) in moved
        for moment, like in (("exp_avg", parameter), ("exp_avg_sq", parameter), ("step", torch.zeros(())))
    }
