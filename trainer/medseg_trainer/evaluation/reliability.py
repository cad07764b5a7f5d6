"""A reliability diagram: the samples' confidence against the share of the raters who marked the same pixels."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from PIL import Image

from medseg_runtime.figures.viewport import Color
from medseg_runtime.result.metrics import ReliabilityBin

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BACKGROUND: Color = (18, 20, 24)


def render_reliability(bins: tuple[ReliabilityBin, ...]) -> Image.Image:
    """Render the diagram and, below it, the number of pixels in each bin."""
    png = io.BytesIO()
    reliability_figure(bins).savefig(png, format="png")
    return Image.open(png).convert("RGB")


def reliability_figure(bins: tuple[ReliabilityBin, ...]) -> Figure:
    """Return the diagram as a matplotlib figure. It is not known to pyplot."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2, 5.2), dpi=100, layout="constrained", facecolor=_rgb(BACKGROUND))
    curve, counts = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    confidence = [b.confidence for b in bins]
    curve.plot([0, 1], [0, 1], color="gray", linewidth=1)
    curve.plot(confidence, [b.agreement for b in bins], "o-", color="gold", markersize=5)
    curve.set(xlim=(0, 1), ylim=(0, 1), ylabel="raters' mean")
    counts.bar(confidence, [b.pixels for b in bins], width=0.04, color="steelblue")
    counts.set(yscale="log", xlabel="confidence", ylabel="pixels")
    for axes in (curve, counts):
        axes.set_facecolor(_rgb(BACKGROUND))
        axes.tick_params(colors="white")
        axes.spines[:].set_color("gray")
        for label in (axes.xaxis.label, axes.yaxis.label):
            label.set_color("white")
    return figure


def _rgb(color: Color) -> tuple[float, float, float]:
    red, green, blue = color
    return red / 255, green / 255, blue / 255
