"""The three graphs of a bundle as torch modules, for export and for sampling in torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from medseg_runtime.backends.base import Float32
from medseg_runtime.backends.host_loop import HostLoop
from medseg_runtime.model.signatures import GraphName
from medseg_trainer.models.autoencoder import MaskAutoencoder
from medseg_trainer.models.denoiser import Denoiser


class EncoderGraph(nn.Module):
    """Image (1, C, H, W) in [0, 1] => condition (1, F, h, w)."""

    def __init__(self, condition: nn.Module) -> None:
        super().__init__()
        self.condition = condition

    def forward(self, image: Tensor) -> Tensor:
        out: Tensor = self.condition(image)
        return out.float()


class DenoiserGraph(nn.Module):
    """One step of a sampler: latent, extra (N, Z, h, w) => next latent, denoised (N, Z, h, w).

    denoised = p latent + q f(latent, t, condition); next = a latent + b denoised + c extra; row = (p, q, a, b, c).
    """

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.denoiser = denoiser

    def forward(
        self, latent: Tensor, extra: Tensor, condition: Tensor, time_features: Tensor, row: Tensor
    ) -> tuple[Tensor, Tensor]:
        p, q, a, b, c = row.unbind()
        # float32 first: otherwise torch would round the row to the type of a low-precision output
        denoised = p * latent + q * self.denoiser(latent, condition, time_features).float()
        return a * latent + b * denoised + c * extra, denoised


class DecoderGraph(nn.Module):
    """Latent (N, Z, h, w) => logits (N, K, H, W)."""

    def __init__(self, autoencoder: MaskAutoencoder) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, latent: Tensor) -> Tensor:
        return self.autoencoder.decode(latent)


@dataclass(frozen=True, slots=True)
class Networks:
    """The networks of a run, for sampling or export."""

    condition: nn.Module
    denoiser: Denoiser
    mask_autoencoder: MaskAutoencoder

    def to(self, device: torch.device) -> Networks:
        """Move them to a device."""
        return Networks(self.condition.to(device), self.denoiser.to(device), self.mask_autoencoder.to(device))

    def graphs(self) -> dict[GraphName, nn.Module]:
        """Return the three graphs, in evaluation mode."""
        return {
            "encoder": EncoderGraph(self.condition).eval(),
            "denoiser": DenoiserGraph(self.denoiser).eval(),
            "decoder": DecoderGraph(self.mask_autoencoder).eval(),
        }


class TorchBackend(HostLoop):
    """Torch as a `Backend` of the runtime, so that its segmenter can validate a training and check an export."""

    name = "torch"
    version: str = torch.__version__
    precision = "float32"

    def __init__(self, networks: Networks) -> None:
        self._graphs = networks.graphs()
        self._device = next(networks.denoiser.parameters()).device

    def run(self, graph: GraphName, feeds: dict[str, Float32]) -> tuple[Float32, ...]:
        """Run a graph in float32; see `HostLoop.run`."""
        with torch.inference_mode():
            out = self._graphs[graph](
                **{name: torch.from_numpy(value).to(self._device) for name, value in feeds.items()}
            )
        tensors = out if isinstance(out, tuple) else (out,)
        return tuple(np.asarray(tensor.float().cpu()) for tensor in tensors)

    def clone(self) -> TorchBackend:
        """Return itself: torch modules in evaluation mode can run in several threads at once."""
        return self

    def close(self) -> None:
        """Drop the networks."""
        self._graphs.clear()
