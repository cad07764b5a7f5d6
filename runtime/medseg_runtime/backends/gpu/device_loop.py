"""The loop of engines on a device: `encode` and `denoise` note what is asked for, `decode` does it all.

So image and noise go up together, only logits come down, and nothing waits in between; errors and the time of all three show in
`decode`. What was noted can be decoded in any order, twice too: nothing of it lies in buffers that a later call would overwrite.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from medseg_runtime.backends.base import Backend, Float32
from medseg_runtime.errors import ParameterError
from medseg_runtime.model.sampler import SamplerTable


@dataclass(frozen=True, eq=False, slots=True)
class Condition:
    """The condition of an image that `decode` will compute, or find on the device."""

    image: Float32


@dataclass(frozen=True, eq=False, slots=True)
class Latents:
    """Latents that `decode` will compute, on the way to their masks."""

    condition: Condition
    noise: Float32
    table: SamplerTable
    features: Float32


class DeviceStream(Protocol):
    """One thread's way through a device."""

    def sample(self, latents: Latents) -> Float32:
        """Image and noise up, everything in between, logits (N, K, H, W) down."""
        ...

    def sample_with_fresh_noise(self, latents: Latents, fresh: Callable[[], Float32]) -> Float32:
        """Return the latents (N, Z, h, w) of a sampler that wants noise from the host at each step."""
        ...

    def decode(self, latents: Float32) -> Float32:
        """Latents (N, Z, h, w) up, logits down."""
        ...

    def close(self) -> None:
        """Free what it holds on the device."""
        ...


class DeviceLoop(Backend):
    """Encode, denoise and decode, given a lane."""

    _stream: DeviceStream

    def encode(self, image: Float32) -> Condition:
        return Condition(image.copy())

    def denoise(
        self,
        condition: Condition,
        noise: Float32,
        table: SamplerTable,
        features: Float32,
        fresh: Callable[[], Float32],
    ) -> Latents | Float32:
        latents = Latents(condition, noise.copy(), table, np.ascontiguousarray(features, np.float32))
        return self._stream.sample_with_fresh_noise(latents, fresh) if table.extra == "noise" else latents

    def decode(self, latents: Latents | Float32) -> Float32:
        return self._stream.sample(latents) if isinstance(latents, Latents) else self._stream.decode(latents)


def refuse_threads(backend: str, threads: int | None) -> None:
    """Refuse an option that would do nothing.

    Raises:
        ParameterError: threads are given.
    """
    if threads is not None:
        raise ParameterError(f"the backend {backend} uses no threads of the CPU", "Leave threads out.")
