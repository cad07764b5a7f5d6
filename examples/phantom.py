"""Render synthetic chest-CT crops with a lung nodule, and the masks of four simulated readers.

No image comes from a patient. The images imitate the LIDC-IDRI nodule crops (128 x 128, about 0.7 mm per pixel, each scaled to 0..255):
a dark lung with vessels, often a piece of chest wall with ribs, a small nodule with a soft edge near the center, and readers who disagree
about the edge and about whether there is a nodule.

    python examples/phantom.py                                    # the committed example
    python examples/phantom.py --patients 40 --out /tmp/phantom   # a data set in the LIDC-IDRI-slices layout
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Field = NDArray[np.float64]  # (SIZE, SIZE): Hounsfield units, or shares of each pixel in [0, 1]

SIZE = 128
NUM_READERS = 4
EXAMPLE_SEED = 130
SLICE_DEPTHS = (0.0, 0.55, -0.55, 0.85, -0.85)  # offset of each slice from the middle of the nodule, in radii

HU_AIR, HU_LUNG, HU_FAT, HU_SOFT, HU_MARROW, HU_CORTEX = -1000.0, -870.0, -95.0, 45.0, 200.0, 850.0

ROWS, COLS = np.mgrid[:SIZE, :SIZE].astype(np.float64)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Phantom:
    """One crop and the readers' masks."""

    image: NDArray[np.uint8]
    """(128, 128), scaled to 0..255."""
    masks: NDArray[np.bool_]
    """(4, 128, 128). As in LIDC-IDRI, an index does not identify a reader, and empty masks come last."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Nodule:
    """The shape of a nodule: a lobed core, and a ground-glass halo if it is part-solid."""

    row: float
    col: float
    radius: float
    """Radius of the core, in pixels."""
    lobes: tuple[tuple[float, float], ...]
    """(amplitude, phase) of the 2nd, 3rd, ... harmonic of the outline."""
    softness: float
    """Width of the edge, in pixels."""
    hu: float
    halo: float
    """Radius of the halo over that of the core; 1: no halo."""

    def occupancy(self, scale: float = 1.0) -> Field:
        """Return the share of each pixel that is nodule, in [0, 1]. scale: of the radius, below 1 away from the middle slice."""
        angle = np.arctan2(ROWS - self.row, COLS - self.col)
        outline = 1 + sum(a * np.cos(k * angle + phase) for k, (a, phase) in enumerate(self.lobes, start=2))
        distance = np.hypot(ROWS - self.row, COLS - self.col)
        core = soft_step(scale * self.radius * outline - distance, self.softness)
        if self.halo == 1:
            return core
        return np.maximum(
            core, 0.42 * soft_step(scale * self.radius * self.halo * outline - distance, 2 * self.softness)
        )


def soft_step(depth: Field, width: float = 0.5) -> Field:
    """Return the share of each pixel inside an edge. depth: distance inwards, in pixels."""
    return 1 / (1 + np.exp(-np.clip(depth / width, -40, 40)))


def blur(field: Field, sigma: float) -> Field:
    """Blur with a Gaussian of `sigma` pixels, edges repeated."""
    reach = int(4 * sigma) + 1
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    for _ in range(2):
        padded = np.pad(field, ((reach, reach), (0, 0)), mode="edge")
        # transposed, so that the second round blurs the other axis and restores the orientation
        field = np.sum([w * padded[i : i + SIZE] for i, w in enumerate(kernel)], axis=0).T
    return field


def mix(hu: Field, value: float, share: Field) -> Field:
    """Put `value` into the given share of each pixel (partial volume)."""
    return hu + share * (value - hu)


def rough(rng: np.random.RandomState, sigma: float) -> Field:
    """Return noise with standard deviation 1, smooth over `sigma` pixels."""
    field = blur(rng.standard_normal((SIZE, SIZE)), sigma)
    return field / float(field.std())


def segment(row: float, col: float, angle: float, length: float, radius: float) -> Field:
    """Return the share of each pixel covered by a straight, tapering vessel that starts at (row, col)."""
    dr, dc = np.sin(angle), np.cos(angle)
    along = np.clip((ROWS - row) * dr + (COLS - col) * dc, 0, length)
    distance = np.hypot(ROWS - row - along * dr, COLS - col - along * dc)
    return soft_step(radius * (1 - 0.35 * along / max(length, 1.0)) - distance, 0.4)


def branches(rng: np.random.RandomState, row: float, col: float, angle: float, radius: float) -> Field:
    """Return a vessel that bends, thins and forks until it leaves the slice."""
    share = np.zeros((SIZE, SIZE))
    while radius > 0.45 and rng.random_sample() > 0.05:
        length = rng.uniform(4, 9)
        share = np.maximum(share, segment(row, col, angle, length, radius))
        row, col = row + length * np.sin(angle), col + length * np.cos(angle)
        angle += rng.normal(0, 0.22)
        radius *= rng.uniform(0.8, 0.97)
        if rng.random_sample() < 0.35:
            fork = rng.choice([-1, 1]) * rng.uniform(0.5, 1.0)
            share = np.maximum(share, branches(rng, row, col, angle + fork, 0.7 * radius))
    return share


def vessels(rng: np.random.RandomState, hilum_angle: float) -> Field:
    """Return the share of vessels: a few that run in the slice, away from the hilum, and many that cross it."""
    share = np.zeros((SIZE, SIZE))
    for _ in range(rng.randint(2, 5)):
        row, col = 64 + 50 * np.sin(hilum_angle) + rng.normal(0, 24), 64 + 50 * np.cos(hilum_angle) + rng.normal(0, 24)
        share = np.maximum(
            share, branches(rng, row, col, hilum_angle + np.pi + rng.normal(0, 0.7), rng.uniform(1.2, 2.6))
        )
    # vessels leave and re-enter the slice
    share *= soft_step(rough(rng, 5.0) + 0.1, 0.25)
    for _ in range(rng.randint(45, 90)):
        row, col = rng.uniform(0, SIZE, 2)
        length, radius = rng.exponential(2.0), min(0.35 + rng.exponential(0.35), 2.0)
        crossing = segment(row, col, hilum_angle + rng.normal(0, 1.0), length, radius)
        share = np.maximum(share, rng.uniform(0.25, 1.0) * crossing)
    return share


def chest_wall(rng: np.random.RandomState, hu: Field, wall_angle: float, gap: float) -> Field:
    """Add the chest wall, `gap` pixels from the center: pleura, muscle with ribs, fat, skin, air."""
    radius = rng.uniform(75, 200)
    row, col = 64 - (radius - gap) * np.sin(wall_angle), 64 - (radius - gap) * np.cos(wall_angle)
    angle = np.arctan2(ROWS - row, COLS - col) - wall_angle
    angle = np.arctan2(np.sin(angle), np.cos(angle))
    outward = np.hypot(ROWS - row, COLS - col) - radius + 2.0 * np.sin(3 * angle + rng.uniform(0, 6))

    muscle, fat = rng.uniform(12, 22), rng.uniform(6, 45)
    hu = mix(hu, HU_SOFT, soft_step(outward))
    hu = mix(hu, HU_FAT, soft_step(outward - muscle + 2.5 * np.sin(4 * angle + rng.uniform(0, 6)), 0.8))
    hu = mix(hu, HU_SOFT, soft_step(outward - muscle - fat))
    hu = mix(hu, HU_AIR, soft_step(outward - muscle - fat - 3))

    arc = radius * angle
    spacing = rng.uniform(44, 64)
    for middle in np.arange(-2, 3) * spacing + rng.uniform(-0.5, 0.5) * spacing:
        half_length, half_width, tilt = rng.uniform(9, 19), rng.uniform(3.6, 5.2), rng.normal(0, 0.16)
        across = outward - 6.5 - tilt * (arc - middle)
        depth = half_width * (1 - np.sqrt(((arc - middle) / half_length) ** 2 + (across / half_width) ** 2))
        hu = mix(hu, HU_CORTEX, soft_step(depth))
        hu = mix(hu, HU_MARROW, soft_step(depth - 1.3, 0.5))
    return hu


def anatomy(rng: np.random.RandomState) -> Field:
    """Return a crop of lung without its nodule, in Hounsfield units."""
    wall_angle = rng.uniform(0, 2 * np.pi)
    hu = HU_LUNG + 22 * rough(rng, 14.0) + 16 * rough(rng, 1.6)
    hu = mix(hu, HU_SOFT, vessels(rng, wall_angle + np.pi))
    if rng.random_sample() < 0.35:  # heart or great vessels, on the side away from the wall
        reach, row, col = rng.uniform(30, 55), 64 - 85 * np.sin(wall_angle), 64 - 85 * np.cos(wall_angle)
        hu = mix(hu, HU_SOFT + rng.uniform(0, 120), soft_step(reach - np.hypot(ROWS - row, COLS - col), 1.0))
    if rng.random_sample() < 0.85:
        hu = chest_wall(rng, hu, wall_angle, gap=rng.uniform(5, 55))
    return hu


def nodule(rng: np.random.RandomState) -> Nodule:
    """Return a random nodule: most are small and solid, some soft or part-solid."""
    ground_glass = rng.random_sample() < 0.2
    return Nodule(
        row=64 + rng.normal(0, 1.5),
        col=64 + rng.normal(0, 1.5),
        radius=float(np.clip(4.3 * np.exp(rng.normal(0, 0.55)), 2.0, 15.0)),
        lobes=tuple((rng.normal(0, 0.16 / k), rng.uniform(0, 2 * np.pi)) for k in (1, 2, 3, 4)),
        softness=rng.uniform(1.0, 1.8) if ground_glass else rng.uniform(0.5, 0.9),
        hu=rng.uniform(-600, -350) if ground_glass else rng.uniform(-80, 60),
        halo=rng.uniform(1.4, 1.8) if rng.random_sample() < 0.25 else 1.0,
    )


def reader_masks(rng: np.random.RandomState, shape: Nodule, scales: list[float]) -> NDArray[np.bool_]:
    """Return the masks of four simulated readers on each slice.

    Each reader has traits that hold for all slices of a nodule: the level of the soft edge, an offset, how closely the mask follows the
    lobes, and the smallest and faintest nodule that is still marked.

    Returns: (slices, 4, 128, 128) bool, empty masks last.
    """
    masks = np.zeros((len(scales), NUM_READERS, SIZE, SIZE), bool)
    contrast = (shape.hu - HU_LUNG) / (HU_SOFT - HU_LUNG)
    smallest = 3.0 / np.sqrt(contrast) * np.exp(rng.normal(0, 0.9, NUM_READERS))
    smallest[rng.randint(NUM_READERS)] = 0.0  # at least one reader marks every nodule of the data set
    for reader, level in enumerate((0.28, 0.4, 0.52, 0.64)):
        outline = dataclasses.replace(
            shape,
            row=shape.row + rng.normal(0, 0.5),
            col=shape.col + rng.normal(0, 0.5),
            radius=shape.radius * np.exp(rng.normal(0, 0.07)),
            lobes=tuple((a * rng.uniform(0.2, 1.2), phase) for a, phase in shape.lobes),
        )
        for index, scale in enumerate(scales):
            if scale * shape.radius > smallest[reader]:
                masks[index, reader] = outline.occupancy(scale) > level + rng.normal(0, 0.04)
    is_empty = ~masks.any(axis=(2, 3))
    return np.take_along_axis(masks, np.argsort(is_empty, axis=1, kind="stable")[:, :, None, None], axis=1)


def make_nodule(seed: int, num_slices: int = 1) -> list[Phantom]:
    """Return `num_slices` (at most 5) parallel slices through one nodule. The same seed gives the same images."""
    rng = np.random.RandomState(seed)  # the NumPy generator whose stream is guaranteed not to change
    background, shape = anatomy(rng), nodule(rng)
    blur_sigma, noise_hu = rng.uniform(0.45, 0.8), rng.uniform(10, 45)
    scales = [float(np.sqrt(1 - depth**2)) for depth in SLICE_DEPTHS[:num_slices]]
    images = []
    for scale in scales:
        hu = blur(mix(background, shape.hu, shape.occupancy(scale)), blur_sigma) + noise_hu * rough(rng, 0.55)
        images.append(np.round(255 * (hu - hu.min()) / (hu.max() - hu.min())).astype(np.uint8))
    masks = reader_masks(rng, shape, scales)
    return [Phantom(image=image, masks=mask) for image, mask in zip(images, masks, strict=True)]


def write_example(folder: Path) -> None:
    """Write the example crop, and its four masks side by side (0/255)."""
    folder.mkdir(parents=True, exist_ok=True)
    (phantom,) = make_nodule(EXAMPLE_SEED)
    Image.fromarray(phantom.image).save(folder / "nodule-phantom.png", optimize=True)
    readers = np.concatenate(list(phantom.masks), axis=1).astype(np.uint8) * 255
    Image.fromarray(readers).save(folder / "nodule-phantom-readers.png", optimize=True)


def write_dataset(folder: Path, num_patients: int, seed: int = 0) -> Path:
    """Write a data set in the LIDC-IDRI-slices layout, with one or two nodules per patient; return its root."""
    root = folder / "LIDC-IDRI-slices"
    rng = np.random.RandomState(seed)
    for patient in range(num_patients):
        for number in range(rng.randint(1, 3)):
            nodule_dir = root / f"PHANTOM-{patient:04d}" / f"nodule-{number}"
            for kind in ("images", *(f"mask-{k}" for k in range(NUM_READERS))):
                (nodule_dir / kind).mkdir(parents=True, exist_ok=True)
            for index, phantom in enumerate(make_nodule(rng.randint(2**31), num_slices=rng.randint(1, 4))):
                Image.fromarray(phantom.image).save(nodule_dir / "images" / f"slice-{index}.png")
                for k, mask in enumerate(phantom.masks):
                    Image.fromarray(mask.astype(np.uint8) * 255).save(nodule_dir / f"mask-{k}" / f"slice-{index}.png")
    return root


def main() -> None:
    """Write the example, or a data set with --patients."""
    parser = argparse.ArgumentParser(description="Render synthetic lung-nodule crops with four simulated readers.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder to write into")
    parser.add_argument("--patients", type=int, help="write a data set of this many patients instead of the example")
    parser.add_argument("--seed", type=int, default=0, help="of the data set")
    args = parser.parse_args()
    if args.patients is None:
        write_example(args.out)
    else:
        write_dataset(args.out, args.patients, args.seed)


if __name__ == "__main__":
    main()
