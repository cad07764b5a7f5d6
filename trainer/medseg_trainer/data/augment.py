"""Augment an image and its masks: shift, rotate, zoom, mirror, and change intensities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from medseg_runtime.model.preprocess import InputRule
from medseg_trainer.config.run import AugmentConfig
from medseg_trainer.data.masks import Labels

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Draw:
    """The random choices for one image."""

    down: int
    right: int
    symmetry: tuple[bool, bool, bool]
    """Mirror rows, mirror columns, transpose."""
    intensity: tuple[float, float, float] | None
    """Gain, offset, exponent."""
    turn: tuple[float, float] | None
    """Angle in radians, clockwise in the image; magnification."""
    tint: tuple[float, float, float] | None = None
    """Gain of each color channel."""

    @classmethod
    def of(cls, rng: np.random.Generator, augment: AugmentConfig) -> Draw:
        """Draw the choices for one image. Rotation, zoom and tint take random numbers only if they are on."""
        down, right = rng.integers(-augment.shift_px, augment.shift_px + 1, 2)
        mirror_rows, mirror_columns, transpose = rng.random(3) < (0.5 if augment.flip else 0.0)
        gain, offset, exponent = rng.uniform(-augment.intensity, augment.intensity, 3)
        turn = None
        if augment.rotation_deg or augment.zoom:
            angle, power = rng.uniform(-1.0, 1.0, 2) * (np.radians(augment.rotation_deg), np.log1p(augment.zoom))
            turned = rng.random() < augment.turn_share
            turn = (float(angle), float(np.exp(power))) if turned else None
        red, green, blue = rng.uniform(-augment.tint, augment.tint, 3) if augment.tint else (0.0, 0.0, 0.0)
        return cls(
            int(down),
            int(right),
            (bool(mirror_rows), bool(mirror_columns), bool(transpose)),
            (1.0 + gain, 0.5 * offset, float(np.exp(2.0 * exponent))) if augment.intensity else None,
            turn,
            (1.0 + red, 1.0 + green, 1.0 + blue) if augment.tint else None,
        )


def augmented(
    image: npt.NDArray[np.floating[Any]], labels: Labels, rule: InputRule, draw: Draw
) -> tuple[Float32, Labels]:
    """Cut the augmented field out of the working size.

    Image (C, h, w) in [0, 1], labels (R, h, w) => the same, (C, H, W) float32 and (R, H, W), at the size of the field.
    """
    rows, columns = _coordinates(image.shape[1:], rule, draw)
    if draw.turn is None:
        field, marked = _cut(image, labels, rows, columns)
    else:
        field, marked = _resampled(image, labels, rows, columns)
    if draw.intensity is not None:
        gain, offset, exponent = draw.intensity
        field = np.clip(field ** np.float32(exponent) * np.float32(gain) + np.float32(offset), 0.0, 1.0)
    if draw.tint is not None:
        gains = np.asarray(draw.tint[: len(field)], np.float32)[:, None, None]
        field = np.clip(field * gains, 0.0, 1.0)
    return _mirrored(field, draw), _mirrored(marked, draw)


def _coordinates(size: tuple[int, ...], rule: InputRule, draw: Draw) -> tuple[Float32, Float32]:
    """Return the row and the column in the working size of each pixel of the field; they broadcast to (H, W)."""
    top = (size[0] - rule.height) // 2 + draw.down
    left = (size[1] - rule.width) // 2 + draw.right
    rows = np.arange(top, top + rule.height, dtype=np.float32)[:, None]
    columns = np.arange(left, left + rule.width, dtype=np.float32)[None, :]
    if draw.turn is None:
        return rows, columns
    angle, magnification = draw.turn
    sine, cosine = np.sin(angle) / magnification, np.cos(angle) / magnification
    center = rows.mean(), columns.mean()
    down, right = rows - center[0], columns - center[1]
    return center[0] + cosine * down - sine * right, center[1] + sine * down + cosine * right


def _cut(
    image: npt.NDArray[np.floating[Any]], labels: Labels, rows: Float32, columns: Float32
) -> tuple[Float32, Labels]:
    """Take whole pixels. Outside the working size, the image repeats its edge, as in inference, and labels are 0."""
    height, width = image.shape[1:]
    beyond = (rows < 0) | (rows >= height) | (columns < 0) | (columns >= width)
    near = np.clip(rows, 0, height - 1).astype(np.intp), np.clip(columns, 0, width - 1).astype(np.intp)
    return image[:, near[0], near[1]].astype(np.float32), np.where(beyond, np.uint8(0), labels[:, near[0], near[1]])


def _resampled(
    image: npt.NDArray[np.floating[Any]], labels: Labels, rows: Float32, columns: Float32
) -> tuple[Float32, Labels]:
    """Interpolate bilinearly. A label is set where it has more than half of the weight, which keeps outlines smooth."""
    padded = np.pad(labels, ((0, 0), (1, 1), (1, 1)))
    marked = np.zeros((len(labels), *np.broadcast_shapes(rows.shape, columns.shape)), np.uint8)
    for value in range(1, int(labels.max(initial=0)) + 1):
        marked[_bilinear((padded == value).astype(np.float32), rows + 1, columns + 1) > 0.5] = value
    return _bilinear(image.astype(np.float32), rows, columns), marked


def _bilinear(values: Float32, rows: Float32, columns: Float32) -> Float32:
    """Sample values (C, h, w) at rows and columns that broadcast to (H, W); outside, the edge is repeated."""
    height, width = values.shape[1:]
    places = np.stack(np.broadcast_arrays(2.0 * columns / (width - 1) - 1.0, 2.0 * rows / (height - 1) - 1.0), axis=-1)
    sampled = F.grid_sample(
        torch.from_numpy(values)[None],
        torch.from_numpy(places.astype(np.float32))[None],
        padding_mode="border",
        align_corners=True,
    )
    out: Float32 = sampled[0].numpy()
    return out


def _mirrored(values: npt.NDArray[Any], draw: Draw) -> npt.NDArray[Any]:
    """Apply one of the eight symmetries to the last two axes. Only square arrays are transposed."""
    mirror_rows, mirror_columns, transpose = draw.symmetry
    if mirror_rows:
        values = values[..., ::-1, :]
    if mirror_columns:
        values = values[..., ::-1]
    if transpose and values.shape[-1] == values.shape[-2]:
        values = values.swapaxes(-1, -2)
    return values
