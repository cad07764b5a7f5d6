"""The sampling loop of GPU backends: `encode` and `denoise` only record their arguments, and `decode` runs everything.

So image and noise are uploaded together, only logits are downloaded, and the host waits once. Errors and the time of all three
appear in `decode`. Recorded latents can be decoded in any order and more than once, because they are copies in host memory.
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
    """The image whose condition `decode` will compute, or find on the device."""

    image: Float32


@dataclass(frozen=True, eq=False, slots=True)
class Latents:
    """The arguments of `denoise`, for `decode`."""

    condition: Condition
    noise: Float32
    table: SamplerTable
    features: Float32


class DeviceStream(Protocol):
    """The device buffers of one backend or clone, and the calls that use them."""

    def sample(self, latents: Latents) -> Float32:
        """Upload image and noise, run all graphs, and return the logits (N, K, H, W)."""
        ...

    def sample_with_fresh_noise(self, latents: Latents, fresh: Callable[[], Float32]) -> Float32:
        """Return the latents (N, Z, h, w) of a sampler that adds noise from the host at each step."""
        ...

    def decode(self, latents: Float32) -> Float32:
        """Upload latents (N, Z, h, w), and return their logits."""
        ...

    def check_open(self) -> None:
        """Raise BackendError after `close`."""
        ...

    def close(self) -> None:
        """Free the buffers. Later calls raise BackendError."""
        ...


class DeviceLoop(Backend):
    """Encode, denoise and decode on a device stream."""

    _stream: DeviceStream

    def encode(self, image: Float32) -> Condition:
        self._stream.check_open()
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
    """Refuse an option without effect.

    Raises:
        ParameterError: `threads` is not None.
    """
    if threads is not None:
        raise ParameterError(f"the backend {backend} uses no threads of the CPU", "Leave threads out.")
