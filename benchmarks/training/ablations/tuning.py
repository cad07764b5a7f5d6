"""The study of the last stage: short tunings of one flow model, one setting changed each time."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.training.ablations.distillation import Distillation
from benchmarks.training.ablations.variants import Study, Variant
from medseg_runtime.model.noise import NoiseLaw
from medseg_trainer.config.presets import fast
from medseg_trainer.config.run import AugmentConfig, Optimisation, TrainConfig

REFERENCE = "energy"
SHORT = Optimisation(steps=300, batch_size=8, learning_rate=2e-4, warmup_steps=30, weight_decay=0.03)
"""Optimisation of all variants: about five processor minutes."""
ABOUT = (
    "Each row starts from the same flow model and is tuned for the same number of steps and masks. Every hundred steps, GED is measured on evenly spaced "
    "val images, and the best weights are kept; some of these images are measured here too."
)


def tuned_variants(base: TrainConfig, short: Optimisation) -> dict[str, Variant]:
    """Return all variants of a preset with an `energy` stage; short: the optimisation of each."""
    assert base.energy is not None
    energy = replace(base.energy, optimisation=short, samples=16)
    base = replace(base, energy=energy)
    flow = replace(base, energy=None)
    four = replace(energy, optimisation=replace(short, batch_size=2 * short.batch_size), samples=energy.samples // 2)
    return {
        "flow": Variant(what="the flow model itself, from which all others start", config=flow, steps=(1, 2, 4)),
        REFERENCE: Variant(what="tuned by the energy score as in the preset, shorter", config=base),
        "energy-score-alone": Variant(
            what="the energy score alone, without matching and confidence terms",
            config=replace(base, energy=replace(energy, matching_weight=0.0, confidence_weight=0.0)),
        ),
        "energy-no-matching": Variant(
            what="without the matching term (best matching of samples and raters)",
            config=replace(base, energy=replace(energy, matching_weight=0.0)),
        ),
        "energy-no-confidence": Variant(
            what="without the confidence term (error against the raters' mean)",
            config=replace(base, energy=replace(energy, confidence_weight=0.0)),
        ),
        "energy-independent": Variant(
            what="independent noise instead of stratified",
            config=replace(base, energy=replace(energy, noise=NoiseLaw())),
        ),
        "energy-four": Variant(
            what="twice the images and half the samples of each per step", config=replace(base, energy=four)
        ),
        "energy-still": Variant(
            what="no rotation, zoom or intensity augmentation",
            config=replace(base, augment=AugmentConfig(shift_px=base.augment.shift_px, flip=base.augment.flip)),
        ),
        "distilled": Variant(
            what="consistency distillation instead of the energy score, sampled with the flow model's noise",
            config=flow,
            distillation=Distillation(optimisation=short, samples=energy.samples),
            steps=(1, 2),
        ),
    }


TUNING = Study(
    key="ablations",
    about=ABOUT,
    reference=REFERENCE,
    variants={
        name: replace(variant, config=replace(variant.config, validate_every=100))
        for name, variant in tuned_variants(fast(), SHORT).items()
    },
)
