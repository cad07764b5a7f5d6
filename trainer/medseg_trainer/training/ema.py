"""Exponential moving average of a module's weights."""

from __future__ import annotations

import torch
from torch import nn


class Ema:
    """The average of a module's floating-point tensors; of other tensors, such as counters, the last value.

    The decay rises with the steps, (1 + step) / (10 + step), up to `decay`, so that the initial weights are soon forgotten.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.tensors = {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Move the average towards the module's weights; step: optimiser steps taken, from 1."""
        decay = min(self.decay, (1 + step) / (10 + step))
        current = module.state_dict()
        floating = [name for name, average in self.tensors.items() if average.is_floating_point()]
        torch._foreach_lerp_(
            [self.tensors[name] for name in floating], [current[name] for name in floating], 1.0 - decay
        )
        for name in self.tensors.keys() - floating:
            self.tensors[name].copy_(current[name])
