"""The study of the whole recipe: every stage from nothing, for a small part of the preset's length, one thing changed each time."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from benchmarks.ablations.variants import Study, Variant
from benchmarks.baselines.own import shortened
from medseg_trainer.config.presets import fast
from medseg_trainer.config.run import AugmentConfig, TrainConfig
from medseg_trainer.models.layers import Attention

REFERENCE = "recipe"
SHARE = 0.03
"""Of the images that the preset shows to each stage, in smaller batches: some nine processor minutes."""
ABOUT = (
    f"Each row is trained from nothing by `medseg-train fit` as the preset `fast` says, with one thing changed, for {SHARE:.1%} of its length in smaller batches: mask "
    "autoencoder, flow model, tuning by the energy score. So short a training tells what helps early; what takes long to pay, as augmentation and capacity do, it undervalues. "
    "GED on evenly spaced val images is taken along the way, and the best weights are kept; some of these images are measured here too."
)


def recipe_variants(base: TrainConfig) -> dict[str, Variant]:
    """Return all variants of a preset that has an `energy` stage."""
    condition, denoiser, augment = base.condition, base.denoiser, base.augment
    changed = {
        REFERENCE: ("as the preset says, but shorter", base),
        "latent-vq": ("mask latents from a codebook of 512, as the paper has them", _bounded(base, "vq")),
        "latent-kl": ("mask latents held by a KL term, as Stable Diffusion has them", _bounded(base, "kl")),
        "masks-mse": (
            "mask autoencoder trained by the mean squared error, not weighted cross-entropy",
            replace(base, mask_autoencoder=replace(base.mask_autoencoder, reconstruction="mse")),
        ),
        "no-shift": ("noise levels of training and sampling not shifted", replace(base, path=replace(base.path, shift=1.0))),
        "one-rater": (
            "one rater of an image in a step of the flow model, not all four",
            replace(base, denoiser=replace(denoiser, raters_per_image=1)),
        ),
        "cells-alike": (
            "cells around the masks weigh as much as all others in the flow model's loss",
            replace(base, denoiser=replace(denoiser, mask_cell_weight=1.0)),
        ),
        "no-auxiliary": (
            "no loss that makes the condition predict the raters' mean",
            replace(base, denoiser=replace(denoiser, auxiliary_weight=0.0)),
        ),
        "small-encoder": (
            "about half the channels in the network that sees the image once",
            replace(base, condition=replace(condition, widths=_halved(condition.widths))),
        ),
        "small-denoiser": (
            "about half the channels in the network that runs once a sample and step",
            replace(base, denoiser=replace(denoiser, widths=_halved(denoiser.widths))),
        ),
        "still": (
            "images neither turned, zoomed nor changed in intensity",
            replace(base, augment=AugmentConfig(shift_px=augment.shift_px, flip=augment.flip)),
        ),
        "no-jitter": ("crops not shifted", replace(base, augment=replace(augment, shift_px=0))),
    }  # fmt: skip
    return {name: Variant(what=what, config=config, whole=True) for name, (what, config) in changed.items()}


def _bounded(base: TrainConfig, regulariser: Literal["vq", "kl"]) -> TrainConfig:
    """Return the preset with mask latents bounded otherwise; only those on the sphere are learnt with noise."""
    return replace(base, mask_autoencoder=replace(base.mask_autoencoder, regulariser=regulariser, latent_noise=0.0))


def _halved(widths: tuple[int, ...]) -> tuple[int, ...]:
    """Return half the channels of each level, in whole heads of attention."""
    heads = Attention.HEAD_WIDTH
    return tuple(-(-width // (2 * heads)) * heads for width in widths)


RECIPE = Study(key="recipe", about=ABOUT, reference=REFERENCE, variants=recipe_variants(shortened(fast(), SHARE)))
