"""The state of a stage: how far it is, and its weights, EMA and optimiser moments as tensors with names."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from medseg_trainer.training.ema import Ema


@dataclass(kw_only=True, slots=True)
class StageProgress:
    """How far a stage is."""

    step: int = 0
    """Optimiser steps taken."""
    best: float | None = None
    """Lowest GED so far; None before the first validation."""


def state_tensors(module: nn.Module, ema: Ema, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return all tensors of a stage, named model.*, ema.* and optimiser.<parameter>.<moment>."""
    tensors = {f"model.{name}": tensor for name, tensor in module.state_dict().items()}
    tensors |= {f"ema.{name}": tensor for name, tensor in ema.tensors.items()}
    for index, moments in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{name}": torch.as_tensor(value) for name, value in moments.items()}
    return tensors


def restore_state(tensors: dict[str, Tensor], module: nn.Module, ema: Ema, optimiser: torch.optim.Optimizer) -> None:
    """Load what `state_tensors` returned."""
    module.load_state_dict({name.removeprefix("model."): t for name, t in tensors.items() if name.startswith("model.")})
    for name, average in ema.tensors.items():
        average.copy_(tensors[f"ema.{name}"])
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimiser."):
            _, index, moment = name.split(".")
            moments.setdefault(int(index), {})[moment] = tensor
    optimiser.load_state_dict(optimiser.state_dict() | {"state": moments})
