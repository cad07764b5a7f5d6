"""The sampling loop for engines that take arrays and return arrays: all of them but those that keep latents on a device."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

import numpy as np

from medseg_runtime.backends import Backend, Float32
from medseg_runtime.bundle import GraphName
from medseg_runtime.errors import BackendError
from medseg_runtime.sampler import SamplerTable


class HostLoop(Backend):
    """Encode, denoise and decode, given an engine that runs one graph."""

    @abstractmethod
    def run(self, graph: GraphName, feeds: dict[str, Float32]) -> tuple[Float32, ...]:
        """Run a graph on float32 arrays, named and shaped as in bundle.json, and return its outputs in that order.

        Raises:
            BackendError: the engine failed.
        """

    def encode(self, image: Float32) -> Float32:
        (condition,) = self._finite("encoder", {"image": image})
        return condition

    def denoise(
        self,
        condition: Float32,
        noise: Float32,
        table: SamplerTable,
        features: Float32,
        fresh: Callable[[], Float32],
    ) -> Float32:
        latent, extra = noise, np.zeros_like(noise)
        rows = table.rows.astype(np.float32)
        for step in range(len(table)):
            if table.extra == "noise":
                extra = fresh()
            feeds = {
                "latent": latent,
                "extra": extra,
                "condition": condition,
                "time_features": features[step : step + 1],
                "row": rows[step],
            }
            latent, denoised = self._finite("denoiser", feeds)
            if table.extra == "previous":
                extra = denoised
        return latent

    def decode(self, latents: Float32) -> Float32:
        (logits,) = self._finite("decoder", {"latent": latents})
        return logits

    def _finite(self, graph: GraphName, feeds: dict[str, Float32]) -> tuple[Float32, ...]:
        outputs = self.run(graph, feeds)
        if not all(np.isfinite(output).all() for output in outputs):
            raise BackendError(
                f"{self.name} returned NaN or infinite values from the {graph}",
                "Try another --backend, and report the bundle.",
            )
        return outputs
