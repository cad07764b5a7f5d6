"""The configuration of a training run. The run folder keeps it as config.json."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from medseg_runtime.errors import CheckpointError, ParameterError
from medseg_runtime.files.typed_json import parse_json, typed
from medseg_runtime.model.bundle import Sampling
from medseg_runtime.model.noise import NoiseLaw
from medseg_runtime.model.preprocess import InputRule
from medseg_runtime.model.sampler import ProbabilityPath, sampler_table

MAX_CHANNELS = 65_536
MAX_BLOCKS = 256
MAX_FIELD = 8192
"""Pixels along a side."""

Regulariser = Literal["vq", "kl", "sphere"]


def check_class_names(names: Sequence[str]) -> None:
    """Check the names of the foreground classes.

    Raises:
        ParameterError: there are none, one is empty, or two are the same.
    """
    _require(len(names) >= 1, "there is no class to segment", "Name at least one.")
    _require(
        len({*names, ""}) == 1 + len(names),
        f"classes {', '.join(map(repr, names))} are not distinct names",
        "Give each class a different name.",
    )


def _require(condition: bool, problem: str, remedy: str) -> None:
    if not condition:
        raise ParameterError(problem, remedy)


def _require_sizes(what: str, *values: int, most: int) -> None:
    for value in values:
        _require(1 <= value <= most, f"{what} {value} is out of range", f"Use 1 to {most:,}.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Optimisation:
    """How one stage is optimised: AdamW, linear warm-up, cosine decay to zero."""

    steps: int
    batch_size: int
    """Images per step, over all processes."""
    learning_rate: float
    warmup_steps: int = 100
    weight_decay: float = 0.01
    gradient_clip: float = 1.0
    """Largest norm of the gradient."""
    ema_decay: float = 0.999

    def __post_init__(self) -> None:
        _require(self.steps >= 1 and self.batch_size >= 1, "steps and batch_size must be positive", "Use 1 or more.")
        _require(0.0 <= self.ema_decay < 1.0, f"ema_decay {self.ema_decay} is out of range", "Use a value in [0, 1).")


@dataclass(frozen=True, kw_only=True, slots=True)
class AutoencoderConfig:
    """A mask or image autoencoder."""

    optimisation: Optimisation
    width: int
    """Channels of the residual blocks, at 1 / factor of the resolution."""
    blocks: int
    """Residual blocks in the encoder and in the decoder."""
    factor: int = 4
    """Image pixels per latent cell, along each side."""
    latent_channels: int = 4
    regulariser: Regulariser
    kl_weight: float = 1e-3
    codebook_size: int = 512
    reconstruction: Literal["cross_entropy", "mse"]
    """The loss. `cross_entropy`: weighted by class frequency, for masks. `mse`: for images, and for masks in an ablation."""
    latent_noise: float = 0.0
    """`sphere` only: largest standard deviation of the noise that training adds to the decoder's latents."""

    def __post_init__(self) -> None:
        _require(
            self.regulariser in get_args(Regulariser),
            f"there is no regulariser {self.regulariser!r}",
            f"Use one of: {', '.join(get_args(Regulariser))}.",
        )
        _require_sizes("width", self.width, self.latent_channels, self.codebook_size, most=MAX_CHANNELS)
        _require_sizes("blocks", self.blocks, most=MAX_BLOCKS)
        _require(self.factor in (2, 4, 8, 16), f"factor {self.factor} is not a power of two", "Use 2, 4, 8 or 16.")
        _require(
            self.latent_noise == 0.0 or self.regulariser == "sphere",
            f"latent_noise has no effect with the {self.regulariser!r} regulariser",
            "Set it to 0, or use 'sphere'.",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ConditionConfig:
    """The condition: the features of the image that the denoiser gets."""

    kind: Literal["autoencoder", "unet"]
    """`autoencoder`: the latent of the image autoencoder (the paper). `unet`: a U-Net trained with the denoiser."""
    tuned: bool
    """Whether the condition is trained with the denoiser; the paper freezes it."""
    autoencoder: AutoencoderConfig | None = None
    """The image autoencoder; `autoencoder` only."""
    widths: tuple[int, ...] = ()
    """Channels per level from half the image's resolution down; `unet` only."""
    blocks: int = 1
    channels: int = 4
    """Channels of the condition."""
    dropout: float = 0.0
    """Dropout rate of each block; `unet` only."""

    def __post_init__(self) -> None:
        _require_sizes("width", *self.widths, self.channels, most=MAX_CHANNELS)
        _require_sizes("blocks", self.blocks, most=MAX_BLOCKS)
        _require(0.0 <= self.dropout < 1.0, f"dropout {self.dropout} is out of range", "Use a value in [0, 1).")
        if self.kind == "autoencoder":
            _require(
                self.autoencoder is not None and self.autoencoder.latent_channels == self.channels,
                f"the condition needs an image autoencoder with a latent of {self.channels} channels",
                "Configure one.",
            )
        else:
            _require(self.tuned, "a U-Net condition cannot be frozen: no other stage trains it", "Set tuned.")
            _require(len(self.widths) > 1, "a U-Net condition needs widths", "Give one width for each level.")


@dataclass(frozen=True, kw_only=True, slots=True)
class DenoiserConfig:
    """The denoiser, which runs once for each sample and step."""

    optimisation: Optimisation
    widths: tuple[int, ...]
    blocks: int
    attention_from: int
    """First level with self-attention; 0 is the finest."""
    time_features: int = 128
    mask_cell_weight: float = 1.0
    """Loss weight of the latent cells in and next to any rater's mask. Other cells weigh 1."""
    auxiliary_weight: float = 0.0
    """Weight of the loss of a head that predicts the raters' mean from the condition; 0 removes the head."""
    raters_per_image: int = 1
    """Masks per image and step, each with its own noise and time. They share one computation of the condition."""

    def __post_init__(self) -> None:
        _require(len(self.widths) >= 1, "the denoiser needs widths", "Give one width for each level.")
        _require_sizes("width", *self.widths, self.time_features, most=MAX_CHANNELS)
        _require_sizes("blocks", self.blocks, most=MAX_BLOCKS)


@dataclass(frozen=True, kw_only=True, slots=True)
class EnergyConfig:
    """Tuning the trained denoiser to sample in few steps; see `objectives.energy`."""

    optimisation: Optimisation
    steps: int = 1
    """Sampler steps. The gradient goes through all of them."""
    samples: int = 8
    """Masks per image and optimiser step, chosen from 16 that share their stratified noise."""
    matching_weight: float = 0.0
    """Weight of the distance in the best matching of samples and raters; the energy score weighs 1."""
    confidence_weight: float = 0.0
    """Weight of the error of the confidence against the raters' mean."""
    noise: NoiseLaw

    def __post_init__(self) -> None:
        _require(1 <= self.steps <= 4, f"tuning for {self.steps} steps is out of range", "Use 1 to 4.")
        _require(2 <= self.samples <= 16, f"tuning with {self.samples} samples is out of range", "Use 2 to 16.")
        _require(
            not self.noise.antithetic,
            "tuning by the energy score does not support antithetic noise",
            "Use stratified or independent noise.",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class AugmentConfig:
    """How images and masks are augmented. Each value is the bound of a uniform distribution."""

    shift_px: int = 0
    """Largest shift along each axis."""
    flip: bool = True
    """Use the eight symmetries of the square: mirror rows and columns, transpose. Fields that are not square are never transposed."""
    intensity: float = 0.0
    """Largest relative change of gain, offset and exponent of the intensities."""
    tint: float = 0.0
    """Largest relative change of gain of each color channel by itself."""
    rotation_deg: float = 0.0
    """Largest rotation in either direction, about the field's center."""
    zoom: float = 0.0
    """Largest magnification minus one: 0.25 gives 0.8 to 1.25 times the size."""
    turn_share: float = 1.0
    """Share of the images that are rotated and zoomed. The others are not interpolated, as in inference."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """One run: data, networks, stages."""

    name: str
    task: str
    classes: tuple[str, ...]
    input: InputRule
    raters: int
    """Masks per image; an image with fewer is an error."""
    mask_autoencoder: AutoencoderConfig
    condition: ConditionConfig
    denoiser: DenoiserConfig
    path: ProbabilityPath
    sampling: Sampling
    """How the denoiser samples before tuning."""
    augment: AugmentConfig
    energy: EnergyConfig | None = None
    """The tuning, which is the last stage; None: no tuning."""
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "auto"
    """`auto`: bfloat16 if the device computes in it natively; otherwise float16 on a GPU, float32 on a CPU."""
    seed: int = 0
    validate_every: int = 1000
    """Steps between validations of the denoiser and of the tuning. The weights with the best GED are kept."""
    validation_images: int = 64
    validation_samples: int = 16

    def __post_init__(self) -> None:
        factor = self.mask_autoencoder.factor
        image_autoencoder = self.condition.autoencoder
        check_class_names(self.classes)
        _require_sizes("a field of", self.input.height, self.input.width, most=MAX_FIELD)
        _require(self.input.context <= MAX_FIELD, f"a context of {self.input.context} px is out of range", "Use less.")
        _require(
            self.input.height % factor == 0 and self.input.width % factor == 0,
            f"a field of {self.input.height}x{self.input.width} px is not divisible by the factor {factor}",
            "Change one of them.",
        )
        _require(
            image_autoencoder is None or image_autoencoder.factor == factor,
            "the image and mask autoencoders have different factors",
            "Give both the same: the denoiser concatenates their latents.",
        )
        _require(
            1 <= self.denoiser.raters_per_image <= self.raters,
            f"a step cannot take {self.denoiser.raters_per_image} of {self.raters} raters",
            "Lower raters_per_image.",
        )
        _, rows, columns = self.latent
        halvings = len(self.denoiser.widths) - 1
        _require(
            rows % 2**halvings == 0 and columns % 2**halvings == 0,
            f"a latent of {rows}x{columns} cells cannot be halved {halvings} times",
            "Give the denoiser fewer widths, or change the field.",
        )
        if self.energy is not None:
            table = sampler_table(self.path, self.sampling.sampler, self.energy.steps)
            _require(
                not table.rows[:, 4].any(),
                f"tuning does not support {self.energy.steps} steps of {self.sampling.sampler}",
                "Use euler, or ddim.",
            )

    @property
    def num_logits(self) -> int:
        """K: 1 for one class; for several, their number plus one for the background."""
        return 1 if len(self.classes) == 1 else len(self.classes) + 1

    @property
    def latent(self) -> tuple[int, int, int]:
        """Channels, rows and columns of the mask latent."""
        factor = self.mask_autoencoder.factor
        return self.mask_autoencoder.latent_channels, self.input.height // factor, self.input.width // factor

    @property
    def last_stage(self) -> Literal["denoiser", "energy"]:
        """The stage whose weights are the result."""
        return "denoiser" if self.energy is None else "energy"

    @property
    def tuned_sampling(self) -> Sampling:
        """How the finished run samples."""
        if self.energy is None:
            return self.sampling
        return replace(self.sampling, steps=self.energy.steps, noise=self.energy.noise, tuned=True)

    def to_json(self) -> str:
        """Return the text of config.json."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> TrainConfig:
        """Read the text of config.json.

        Raises:
            CheckpointError: it is not a configuration of this version: a field is missing, unknown, of another type or
                out of range.
        """
        try:
            config: TrainConfig = typed(cls, parse_json(text), "config")
        except (TypeError, ValueError, RecursionError) as error:
            raise CheckpointError(
                f"config.json is not a configuration of this version: {error}",
                "Train again, or install the version that wrote it.",
            ) from error
        return config
