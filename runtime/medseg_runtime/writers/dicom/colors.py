"""Colors of segments and regions of interest, so that viewers draw a result as our own pictures do."""

from __future__ import annotations

import colorsys

from medseg_runtime.figures.overlay import CONSENSUS
from medseg_runtime.figures.viewport import Color

SAMPLES: tuple[Color, ...] = ((86, 180, 233), (213, 94, 0), (0, 158, 115), (204, 121, 167))
"""Beside the consensus's yellow also told apart by the color-blind: Okabe and Ito, Color Universal Design (2008)."""
GOLDEN_RATIO = 0.618034
"""Hues in steps of this part of the circle stay apart, however many they are."""


def consensus_color(index: int) -> Color:
    """Return the color of a class's consensus. index: of the class."""
    return CONSENSUS[index % len(CONSENSUS)]


def sample_color(number: int) -> Color:
    """Return the color of a chosen sample. number: its place among those of all classes, from 0."""
    if number < len(SAMPLES):
        return SAMPLES[number]
    lightness = (0.45, 0.65, 0.8)[number % 3]
    red, green, blue = colorsys.hls_to_rgb(number * GOLDEN_RATIO % 1, lightness, 0.8)
    return round(255 * red), round(255 * green), round(255 * blue)
