"""The study of the whole recipe: every stage trained from scratch for a small share of the preset's length, one setting changed each time."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from benchmarks.training.ablations.variants import Study, Variant
from benchmarks.training.baselines.presets import shortened
from medseg_trainer.config.presets import fast
from medseg_trainer.config.run import AugmentConfig, TrainConfig
from medseg_trainer.models.layers import Attention

REFERENCE = "recipe"
SHARE = 0.03
"""Share of the images that the preset shows to each stage, in smaller batches: about nine processor minutes."""
ABOUT = (
    f"Each row is the preset `fast` with one setting changed, trained from scratch by `medseg-train fit` for {SHARE:.1%} of its length in smaller batches: mask "
    "autoencoder, flow model, tuning by the energy score. So short a training shows what helps early. It undervalues what pays off late, such as augmentation and capacity. "
    "The weights with the best GED on evenly spaced val images are kept; some of these images are measured here too."
)


def recipe_variants(base: TrainConfig) -> dict[str, Variant]:
    """Return all variants of a preset with an `energy` stage."""
    condition, denoiser, augment = base.condition, base.denoiser, base.augment
    changed = {
        REFERENCE: ("the preset, shorter", base),
        "latent-vq": ("mask latents from a codebook of 512, as in the paper", _bounded(base, "vq")),
        "latent-kl": ("mask latents with a KL term, as in Stable Diffusion", _bounded(base, "kl")),
        "masks-mse": (
            "mask autoencoder trained by the mean squared error instead of weighted cross-entropy",
            replace(base, mask_autoencoder=replace(base.mask_autoencoder, reconstruction="mse")),
        ),
        "no-shift": ("noise levels of training and sampling not shifted", replace(base, path=replace(base.path, shift=1.0))),
        "one-rater": (
            "one rater of each image in a step of the flow model instead of four",
            replace(base, denoiser=replace(denoiser, raters_per_image=1)),
        ),
        "cells-alike": (
            "cells around the masks weigh the same as all others in the flow model's loss",
            replace(base, denoiser=replace(denoiser, mask_cell_weight=1.0)),
        ),
        "no-auxiliary": (
            "no auxiliary loss that makes the condition predict the raters' mean",
            replace(base, denoiser=replace(denoiser, auxiliary_weight=0.0)),
        ),
        "small-encoder": (
            "about half the channels in the image encoder",
            replace(base, condition=replace(condition, widths=_halved(condition.widths))),
        ),
        "small-denoiser": (
            "about half the channels in the denoiser",
            replace(base, denoiser=replace(denoiser, widths=_halved(denoiser.widths))),
        ),
        "still": (
            "no rotation, zoom or intensity augmentation",
            replace(base, augment=AugmentConfig(shift_px=augment.shift_px, flip=augment.flip)),
        ),
        "no-jitter": ("crops not shifted", replace(base, augment=replace(augment, shift_px=0))),
    }  # fmt: skip
    return {name: Variant(what=what, config=config, whole=True) for name, (what, config) in changed.items()}


def _bounded(base: TrainConfig, regulariser: Literal["vq", "kl"]) -> TrainConfig:
    """Return the preset with another regulariser of the mask latents, without latent noise: only the spherical one is trained with it."""
    return replace(base, mask_autoencoder=replace(base.mask_autoencoder, regulariser=regulariser, latent_noise=0.0))


def _halved(widths: tuple[int, ...]) -> tuple[int, ...]:
    """Return half the channels of each level, rounded up to whole attention heads."""
    heads = Attention.HEAD_WIDTH
    return tuple(-(-width // (2 * heads)) * heads for width in widths)


RECIPE = Study(key="recipe", about=ABOUT, reference=REFERENCE, variants=recipe_variants(shortened(fast(), SHARE)))
