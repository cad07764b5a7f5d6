"""The study of the last stage: one flow model tuned again and again, shortly, one thing changed each time."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.ablations.distillation import Distillation
from benchmarks.ablations.variants import Study, Variant
from medseg_runtime.model.noise import NoiseLaw
from medseg_trainer.config.presets import fast
from medseg_trainer.config.run import AugmentConfig, Optimisation, TrainConfig

REFERENCE = "energy"
SHORT = Optimisation(steps=300, batch_size=8, learning_rate=2e-4, warmup_steps=30, weight_decay=0.03)
"""Of all variants: what a processor does in five minutes."""
ABOUT = (
    "Each row starts from the same flow model and is tuned for as many steps of as many masks. After every hundred steps its GED is taken on evenly spaced "
    "val images, and the best weights are kept; some of these images are measured here too."
)


def tuned_variants(base: TrainConfig, short: Optimisation) -> dict[str, Variant]:
    """Return all variants of a preset that has an `energy` stage; short: how long each is tuned."""
    assert base.energy is not None
    energy = replace(base.energy, optimisation=short, samples=16)
    base = replace(base, energy=energy)
    flow = replace(base, energy=None)
    four = replace(energy, optimisation=replace(short, batch_size=2 * short.batch_size), samples=energy.samples // 2)
    return {
        "flow": Variant(what="the flow model itself, where all others start", config=flow, steps=(1, 2, 4)),
        REFERENCE: Variant(what="tuned by the energy score as the preset says, but shorter", config=base),
        "energy-score-alone": Variant(
            what="the score alone: neither matching nor confidence beside it",
            config=replace(base, energy=replace(energy, matching_weight=0.0, confidence_weight=0.0)),
        ),
        "energy-no-matching": Variant(
            what="no distance of the best matching of samples and raters",
            config=replace(base, energy=replace(energy, matching_weight=0.0)),
        ),
        "energy-no-confidence": Variant(
            what="no error of the confidence against the raters' mean",
            config=replace(base, energy=replace(energy, confidence_weight=0.0)),
        ),
        "energy-independent": Variant(
            what="independent noise for each sample, not stratified",
            config=replace(base, energy=replace(energy, noise=NoiseLaw())),
        ),
        "energy-four": Variant(
            what="twice the images and half the samples of each in a step", config=replace(base, energy=four)
        ),
        "energy-still": Variant(
            what="images neither turned, zoomed nor changed in intensity",
            config=replace(base, augment=AugmentConfig(shift_px=base.augment.shift_px, flip=base.augment.flip)),
        ),
        "distilled": Variant(
            what="consistency distillation instead of the energy score, drawn with the flow model's noise",
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
