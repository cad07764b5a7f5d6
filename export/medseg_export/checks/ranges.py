"""Record the largest magnitudes in the networks: beyond 65,504 float16 becomes infinite, then NaN, then a black mask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Self

import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from medseg_trainer.models.graphs import Networks


@dataclass(frozen=True, slots=True)
class Peak:
    """The largest magnitude in a set of tensors, and where it occurred."""

    value: float = 0.0
    where: str = "nowhere"
    """The layer that last began to run, and the torch function."""


class Ranges(TorchFunctionMode):
    """Context manager that records what the networks compute in float32.

    A low-precision network holds only some of these tensors in low precision, so the result is an upper bound.
    """

    def __init__(self, networks: Networks) -> None:
        super().__init__()
        self.largest = Peak()
        """Over all tensors."""
        self.norm_input = Peak()
        """Over the inputs of norms, which square them."""
        self._networks = networks
        self._layer = ""
        self._hooks: list[RemovableHandle] = []

    def __enter__(self) -> Self:
        networks: dict[str, nn.Module] = {
            "condition": self._networks.condition,
            "denoiser": self._networks.denoiser,
            "mask_autoencoder": self._networks.mask_autoencoder,
        }
        self._hooks = [
            layer.register_forward_pre_hook(partial(self._enter_layer, f"{network}.{name}"))
            for network, module in networks.items()
            for name, layer in module.named_modules()
        ]
        super().__enter__()  # type: ignore[no-untyped-call]  # torch's
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, traceback)  # type: ignore[no-untyped-call]  # torch's
        for hook in self._hooks:
            hook.remove()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", repr(func))
        self.largest = self._larger(self.largest, out, name)
        if func is F.group_norm:
            self.norm_input = self._larger(self.norm_input, args[0], name)
        return out

    def _enter_layer(self, name: str, _layer: nn.Module, _inputs: tuple[Any, ...]) -> None:
        self._layer = name

    def _larger(self, known: Peak, found: Any, function: str) -> Peak:
        if not (isinstance(found, Tensor) and found.is_floating_point() and found.numel()):
            return known
        value = float(found.abs().max())
        return known if value <= known.value else Peak(value, f"{self._layer}, {function}")  # a NaN stays
