"""Named configurations. `medseg-train show NAME` prints one; a run keeps its own as config.json."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from medseg_runtime.model.bundle import Sampling
from medseg_runtime.model.noise import NoiseLaw
from medseg_runtime.model.preprocess import InputRule
from medseg_runtime.model.sampler import ProbabilityPath
from medseg_trainer.config.run import (
    AugmentConfig,
    AutoencoderConfig,
    ConditionConfig,
    DenoiserConfig,
    EnergyConfig,
    Optimisation,
    TrainConfig,
)

# The central 64x64 px of the 128x128 crops hold 99.5 % of all mask pixels of LIDC.
LIDC_INPUT = InputRule(channels=1, height=64, width=64, geometry="native", intensity="minmax", context=128)


def fast() -> TrainConfig:
    """LIDC-IDRI, one sampling step: flow matching on unit-sphere latents, then tuning by the energy score of the masks."""
    return TrainConfig(
        name="lidc-nodule",
        task="outline the lung nodule at the centre of a chest CT crop, as one of several radiologists would",
        classes=("nodule",),
        input=LIDC_INPUT,
        raters=4,
        mask_autoencoder=AutoencoderConfig(
            optimisation=Optimisation(steps=2000, batch_size=128, learning_rate=1e-3),
            width=64,
            blocks=3,
            regulariser="sphere",
            reconstruction="cross_entropy",
            latent_noise=0.45,
        ),
        condition=ConditionConfig(
            kind="unet", tuned=True, widths=(64, 128, 160, 160), blocks=2, channels=96, dropout=0.1
        ),
        denoiser=DenoiserConfig(
            optimisation=Optimisation(steps=5000, batch_size=64, learning_rate=6e-4, weight_decay=0.03),
            widths=(64, 128, 160),
            blocks=1,
            attention_from=1,
            mask_cell_weight=4.0,
            auxiliary_weight=2.0,
            raters_per_image=4,
        ),
        path=ProbabilityPath(objective="flow", shift=3.0),
        sampling=Sampling(sampler="euler", steps=4, noise=NoiseLaw(antithetic=True)),
        augment=AugmentConfig(shift_px=8, intensity=0.15, rotation_deg=180.0, zoom=0.2, turn_share=0.5),
        energy=EnergyConfig(
            optimisation=Optimisation(steps=6000, batch_size=20, learning_rate=1.5e-4, weight_decay=0.03),
            samples=8,
            matching_weight=0.75,
            confidence_weight=3.0,
            noise=NoiseLaw(stratified=0.95),
        ),
        validate_every=750,
        validation_images=128,
    )


def paper() -> TrainConfig:
    """LIDC-IDRI as in the paper: frozen VQ autoencoders, epsilon-prediction, a schedule of 1,000 steps."""
    autoencoder = AutoencoderConfig(
        optimisation=Optimisation(steps=1500, batch_size=64, learning_rate=1e-3),
        width=64,
        blocks=3,
        regulariser="vq",
        reconstruction="cross_entropy",
    )
    base = fast()
    return replace(
        base,
        mask_autoencoder=autoencoder,
        condition=ConditionConfig(
            kind="autoencoder",
            tuned=False,
            autoencoder=replace(autoencoder, reconstruction="mse"),
            channels=autoencoder.latent_channels,
        ),
        denoiser=replace(
            base.denoiser,
            widths=(96, 192, 192),
            blocks=2,
            mask_cell_weight=1.0,
            auxiliary_weight=0.0,
            raters_per_image=1,
        ),
        path=ProbabilityPath(objective="epsilon"),
        sampling=Sampling(sampler="ddim", steps=50, noise=NoiseLaw()),
        energy=None,
    )


def photo() -> TrainConfig:
    """Color photographs of any size, resized to 256x256 px, one rater: skin, endoscopy, your own folder."""
    base = fast()
    return replace(
        base,
        name="photo",
        task="outline the structure that the training masks outline",
        classes=("lesion",),
        input=InputRule(channels=3, height=256, width=256, geometry="resize", intensity="unit"),
        raters=1,
        mask_autoencoder=replace(
            base.mask_autoencoder,
            factor=8,
            width=96,
            optimisation=Optimisation(steps=600, batch_size=16, learning_rate=1e-3),
        ),
        condition=replace(base.condition, widths=(32, 64, 96, 160, 192)),
        denoiser=replace(
            base.denoiser,
            optimisation=replace(base.denoiser.optimisation, steps=4000, batch_size=16),
            mask_cell_weight=1.0,
            raters_per_image=1,
        ),
        augment=AugmentConfig(shift_px=24, intensity=0.2, tint=0.1, rotation_deg=180.0, zoom=0.4),
        energy=None,
        validation_images=64,
    )


def isic() -> TrainConfig:
    """ISIC-2018 Task 1: `photo` for skin lesions in dermoscopy."""
    return replace(
        photo(), name="isic-lesion", task="outline the skin lesion in a dermoscopic photograph", classes=("lesion",)
    )


def cvc() -> TrainConfig:
    """CVC-ClinicDB: `photo` for polyps in colonoscopy; 3,000 steps of 16, about 120 epochs of its 404 frames."""
    base = photo()
    return replace(
        base,
        name="cvc-polyp",
        task="outline the polyp in a frame of a colonoscopy",
        classes=("polyp",),
        denoiser=replace(base.denoiser, optimisation=replace(base.denoiser.optimisation, steps=3000)),
    )


def tiny() -> TrainConfig:
    """Every stage of `fast`, small: two minutes on two cores. For tests, and for trying a data set."""
    base = fast()
    return replace(
        base,
        name="tiny",
        mask_autoencoder=replace(
            base.mask_autoencoder,
            width=32,
            blocks=1,
            optimisation=Optimisation(steps=200, batch_size=16, learning_rate=2e-3, warmup_steps=20),
        ),
        condition=replace(base.condition, widths=(16, 32, 64), blocks=1, channels=32),
        denoiser=replace(
            base.denoiser,
            widths=(32, 64),
            optimisation=Optimisation(steps=250, batch_size=8, learning_rate=2e-3, warmup_steps=20, ema_decay=0.98),
        ),
        energy=EnergyConfig(
            optimisation=Optimisation(steps=125, batch_size=8, learning_rate=5e-4, warmup_steps=20, ema_decay=0.98),
            samples=4,
            matching_weight=0.5,
            confidence_weight=2.0,
            noise=NoiseLaw(stratified=0.5),
        ),
        validate_every=125,
        validation_images=8,
        validation_samples=8,
    )


PRESETS: dict[str, Callable[[], TrainConfig]] = {
    "fast": fast,
    "paper": paper,
    "photo": photo,
    "isic": isic,
    "cvc": cvc,
    "tiny": tiny,
}
