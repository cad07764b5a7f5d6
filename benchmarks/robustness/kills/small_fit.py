"""medseg-train with one more preset, `smallest`: three stages of a few steps each, every step logged and saved."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from medseg_runtime.model.preprocess import InputRule
from medseg_trainer import cli
from medseg_trainer.config.presets import PRESETS, tiny
from medseg_trainer.config.run import Optimisation, TrainConfig
from medseg_trainer.training import loop

STEPS, IMAGES, SIDE = 6, 8, 32


def smallest() -> TrainConfig:
    """Every stage of `tiny`, in a few seconds."""
    base = tiny()
    assert base.energy is not None
    optimisation = Optimisation(steps=STEPS, batch_size=4, learning_rate=1e-3, warmup_steps=2, ema_decay=0.9)
    return replace(
        base,
        input=InputRule(channels=1, height=SIDE, width=SIDE, geometry="resize", intensity="minmax"),
        raters=1,
        mask_autoencoder=replace(base.mask_autoencoder, width=16, optimisation=optimisation),
        condition=replace(base.condition, widths=(8, 16), channels=8),
        denoiser=replace(
            base.denoiser, optimisation=optimisation, widths=(16, 32), time_features=16, raters_per_image=1
        ),
        energy=replace(base.energy, optimisation=optimisation),
        precision="32-true",
        validate_every=3,
        validation_images=2,
        validation_samples=3,
    )


def write_data(folder: Path) -> None:
    """Write images of bright discs, their masks and splits.csv."""
    row, column = np.mgrid[:SIDE, :SIDE]
    lines = ["image,split"]
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for number in range(IMAGES):
        chance = np.random.default_rng(number)
        disc = np.hypot(row - chance.uniform(10, 22), column - chance.uniform(10, 22)) < 6
        picture = 60 + 120 * disc + chance.normal(0, 10, disc.shape)
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(folder / "images" / f"{number}.png")
        Image.fromarray(disc.astype(np.uint8)).save(folder / "masks" / f"{number}.png")
        lines.append(f"{number}.png,{'val' if number >= IMAGES - 2 else 'train'}")
    (folder / "splits.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    """Run the command."""
    PRESETS["smallest"] = smallest
    loop.LOG_EVERY, loop.SAVE_EVERY_SECONDS = 1, 0.0
    cli.main()


if __name__ == "__main__":
    main()
