"""Other implementations of the same task, each as one call that returns all samples.

    a  research code: torch float32 with its defaults, one sample at a time, encoding again for each
    b  the same network, optimised in torch: channels last, all samples in one call, float32 and bfloat16
    c  diffusers: a UNet2DModel of the denoiser's size, DDIM 50 steps, all samples in one call, on our latents
    d  one step, of one sample, of a pixel-space U-Net of MedSegDiff's size
    e  a deterministic MONAI U-Net of the size of our encoder and denoiser, one pass

Their time excludes reading, thresholding, resizing and counting; ours includes them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.common.networks import parameters, untrained
from benchmarks.latency.timing import Run
from medseg_runtime.model.sampler import sampler_table, time_features
from medseg_trainer.config.run import TrainConfig

DDIM_STEPS = 50
MEDSEGDIFF_STEPS = 1000
"""`--diffusion_steps` in MedSegDiff's README (github.com/MedicineToken/MedSegDiff); its DPM-Solver takes 50."""
MEDSEGDIFF_WIDTHS = (128, 128, 256, 256, 512, 512)
"""`--image_size 256 --num_channels 128 --num_res_blocks 2 --attention_resolutions 16`: channels of guided_diffusion's levels."""
WIDTHS = tuple(range(16, 257, 16))
"""Candidate widths of the finest level, for a peer of a given size."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Peer:
    """One implementation."""

    key: str
    what: str
    parameters: int
    run: Run


class TorchPipeline:
    """Our three networks as torch modules, and the sampling loop."""

    def __init__(self, config: TrainConfig, *, channels_last: bool = False, bfloat16: bool = False) -> None:
        self.graphs: dict[str, nn.Module] = {
            name: _channels_last(module) if channels_last else module
            for name, module in untrained(config).graphs().items()
        }
        self.parameters = sum(parameters(module) for module in self.graphs.values())
        self._layout = torch.channels_last if channels_last else torch.contiguous_format
        self._bfloat16 = bfloat16
        table = sampler_table(config.path, config.sampling.sampler, config.sampling.steps)
        assert table.extra != "noise", "the loop below adds no new noise"
        self._rows = torch.from_numpy(table.rows.astype(np.float32))
        self._features = torch.from_numpy(time_features(table.t, config.denoiser.time_features))

    @torch.inference_mode()
    def __call__(self, image_1CHW: Tensor, noise_NZhw: Tensor) -> Tensor:
        """Return logits (N, K, H, W)."""
        with torch.autocast("cpu", torch.bfloat16) if self._bfloat16 else nullcontext():
            condition = self.graphs["encoder"](image_1CHW.contiguous(memory_format=self._layout))
            latent, denoised = noise_NZhw.contiguous(memory_format=self._layout), torch.zeros_like(noise_NZhw)
            for row, features in zip(self._rows, self._features, strict=True):
                latent, denoised = self.graphs["denoiser"](latent, denoised, condition, features[None], row)
            logits: Tensor = self.graphs["decoder"](latent)
        return logits


def peers(config: TrainConfig, samples: int, *, has_bf16: bool, divisor: int = 1) -> list[Peer]:
    """Build all peers of a configuration's networks.

    divisor: makes (d) and (e) smaller, for smoke runs.
    """
    image = torch.rand(1, config.input.channels, config.input.height, config.input.width)
    noise = torch.randn(samples, *config.latent)
    return [
        _sample_by_sample(config, image, noise),
        *_batched(config, image, noise, has_bf16=has_bf16),
        _diffusers(config, image, noise),
        _pixel_space_step(divisor),
        _deterministic(config, image, divisor),
    ]


def _sample_by_sample(config: TrainConfig, image: Tensor, noise: Tensor) -> Peer:
    pipeline = TorchPipeline(config)

    def run() -> list[Tensor]:
        return [pipeline(image, noise[k : k + 1]) for k in range(len(noise))]

    what = f"torch float32 NCHW, eager, {len(noise)} times one sample, the encoder each time"
    return Peer(key="a", what=what, parameters=pipeline.parameters, run=run)


def _batched(config: TrainConfig, image: Tensor, noise: Tensor, *, has_bf16: bool) -> list[Peer]:
    kinds = {"b float32": False} | ({"b bfloat16": True} if has_bf16 else {})
    found = []
    for key, bfloat16 in kinds.items():
        pipeline = TorchPipeline(config, channels_last=True, bfloat16=bfloat16)
        what = (
            f"torch channels last, {len(noise)} samples in one call, {'bfloat16 autocast' if bfloat16 else 'float32'}"
        )
        found.append(Peer(key=key, what=what, parameters=pipeline.parameters, run=_call(pipeline, image, noise)))
    return found


def _diffusers(config: TrainConfig, image: Tensor, noise: Tensor) -> Peer:
    """Build a U-Net that takes the condition as input channels, with diffusers' DDIM loop."""
    from diffusers import DDIMScheduler, UNet2DModel

    ours = TorchPipeline(config)
    latent, condition_channels = config.latent, config.condition.channels
    shape = {"sample_size": latent[1], "in_channels": latent[0] + condition_channels, "out_channels": latent[0]}

    def build(width: int) -> nn.Module:
        return _quiet(UNet2DModel, block_out_channels=(width, 2 * width, 2 * width), layers_per_block=1, norm_num_groups=8, attention_head_dim=32,
                      down_block_types=("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
                      up_block_types=("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"), **shape)  # fmt: skip

    network = closest(build, parameters(ours.graphs["denoiser"])).eval()
    scheduler: Any = DDIMScheduler()  # type: ignore[no-untyped-call]

    @torch.inference_mode()
    def run() -> Tensor:
        scheduler.set_timesteps(DDIM_STEPS)
        condition = ours.graphs["encoder"](image).expand(len(noise), -1, -1, -1)
        z = noise
        for t in scheduler.timesteps:
            out = network(torch.cat([z, condition], dim=1), t).sample
            z = scheduler.step(out, t, z).prev_sample
        logits: Tensor = ours.graphs["decoder"](z)
        return logits

    what = f"diffusers UNet2DModel, DDIM {DDIM_STEPS} steps, {len(noise)} samples in one call, float32, between our encoder and decoder"
    return Peer(key="c", what=what, parameters=parameters(network), run=run)


def _pixel_space_step(divisor: int) -> Peer:
    """Build a U-Net as wide and deep as MedSegDiff's. MedSegDiff has a second, conditional encoder: its real step takes longer."""
    from diffusers import UNet2DModel

    side, widths = 256 // divisor, tuple(width // divisor for width in MEDSEGDIFF_WIDTHS)
    network = _quiet(UNet2DModel, sample_size=side, in_channels=4, out_channels=2, block_out_channels=widths, layers_per_block=2,
                     down_block_types=("DownBlock2D",) * 4 + ("AttnDownBlock2D", "DownBlock2D"),
                     up_block_types=("UpBlock2D", "AttnUpBlock2D") + ("UpBlock2D",) * 4,
                     attention_head_dim=None, norm_num_groups=widths[0] // 4).eval()  # fmt: skip
    noisy = torch.randn(1, 4, side, side)  # the RGB image and the noisy mask
    what = f"one step, of one sample, of a pixel-space U-Net of MedSegDiff's size, {side} px, float32"
    return Peer(key="d", what=what, parameters=parameters(network), run=_call(network, noisy, 500))


def _deterministic(config: TrainConfig, image: Tensor, divisor: int) -> Peer:
    from monai.networks.nets.unet import UNet

    def build(width: int) -> nn.Module:
        network: nn.Module = UNet(spatial_dims=2, in_channels=config.input.channels, out_channels=config.num_logits,
                                  channels=(width, 2 * width, 4 * width, 8 * width), strides=(2, 2, 2), num_res_units=2)  # fmt: skip
        return network

    ours = untrained(config)
    network = closest(build, (parameters(ours.condition) + parameters(ours.denoiser)) // divisor**2).eval()
    what = f"MONAI UNet, deterministic: one pass, one mask, {config.input.height} px, float32"
    return Peer(key="e", what=what, parameters=parameters(network), run=_call(network, image))


def closest(build: Callable[[int], nn.Module], size: int) -> nn.Module:
    """Return the network whose number of weights is closest to a size, over `WIDTHS`."""
    with torch.device("meta"):  # counts weights without allocating them
        width = min(WIDTHS, key=lambda width: abs(parameters(build(width)) - size))
    return build(width)


def _channels_last(module: nn.Module) -> nn.Module:
    for parameter in module.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return module


def _call(function: Callable[..., object], *arguments: object) -> Run:
    @torch.inference_mode()
    def run() -> object:
        return function(*arguments)

    return run


def _quiet(build: Callable[..., Any], **settings: Any) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside diffusers
        network: nn.Module = build(**settings)
    return network
