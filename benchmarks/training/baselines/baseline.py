"""A baseline: a network that the trainer's loop trains and the runtime's `Segmenter` samples from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medseg_runtime.backends.base import Backend, Float32
from medseg_runtime.inference.segmenter import Segmenter
from medseg_runtime.model.bundle import Precision, Sampling
from medseg_runtime.model.noise import NoiseLaw
from medseg_runtime.model.sampler import SamplerTable
from medseg_trainer.config.run import TrainConfig
from medseg_trainer.models.manifest import manifest_of


class Baseline(nn.Module, ABC):
    """A network that encodes an image once, and then draws any number of masks."""

    latent_channels: int
    """Standard normal numbers per mask."""

    @abstractmethod
    def encode(self, image_1CHW: Tensor) -> Any:
        """Encode an image (1, C, H, W) in [0, 1] into what all its masks share."""

    @abstractmethod
    def draw(self, encoded: Any, noise_NZ: Tensor) -> Tensor:
        """Return logits (N, 1, H, W) from standard normal numbers (N, Z)."""


class BaselineBackend(Backend):
    """A baseline as the runtime's `Backend`, so that its masks are thresholded, placed and measured as our model's are."""

    name = "torch"
    version: str = torch.__version__
    precision: Precision = "float32"
    why = "baselines are not exported"

    def __init__(self, baseline: Baseline) -> None:
        self._baseline = baseline.eval()

    @torch.inference_mode()
    def encode(self, image: Float32) -> Any:
        return self._baseline.encode(torch.from_numpy(image))

    @torch.inference_mode()
    def denoise(
        self,
        condition: Any,
        noise: Float32,
        table: SamplerTable,  # noqa: ARG002 - a baseline has no steps
        features: Float32,  # noqa: ARG002
        fresh: Callable[[], Float32],  # noqa: ARG002
    ) -> Tensor:
        """Return logits; `decode` passes them on."""
        return self._baseline.draw(condition, torch.from_numpy(noise).flatten(1))

    def decode(self, latents: Any) -> Float32:
        return np.asarray(latents.float(), np.float32)

    def clone(self) -> BaselineBackend:
        """Return the same object: torch modules in evaluation mode are thread-safe."""
        return self

    def close(self) -> None:
        """Do nothing; the weights are freed with the last reference."""


def segmenter_of(baseline: Baseline, config: TrainConfig) -> Segmenter:
    """Return a segmenter that samples from a baseline: the configuration's input rule, independent noise, one step."""
    manifest = replace(
        manifest_of(config),
        latent=(baseline.latent_channels, 1, 1),
        sampling=Sampling(sampler="euler", steps=1, noise=NoiseLaw()),
    )
    return Segmenter(manifest, BaselineBackend(baseline))
