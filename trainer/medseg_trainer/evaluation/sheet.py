"""A sheet of pictures for judging a model: one row for each case, with the outlines of raters and samples."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from medseg_runtime.figures.contours import outline_on_screen, paint_outline
from medseg_runtime.figures.photo import colored, photograph
from medseg_runtime.figures.viewport import Bool, Canvas, Color, Float32, Viewport
from medseg_runtime.model.preprocess import Box
from medseg_runtime.result.metrics import ReliabilityBin
from medseg_runtime.result.segmentation import Segmentation
from medseg_runtime.result.summary import NOTICE
from medseg_trainer.data.layouts import Case
from medseg_trainer.data.masks import Labels
from medseg_trainer.evaluation.reliability import BACKGROUND, render_reliability

PANEL, GAP, HEADING = 192, 6, 26
RATERS: tuple[Color, ...] = (
    (255, 120, 90),
    (90, 200, 255),
    (140, 230, 120),
    (240, 150, 240),
    (250, 220, 90),
    (180, 170, 255),
)
SAMPLE: Color = (110, 190, 255)
CONSENSUS: Color = (255, 214, 70)
SHOWN_SAMPLES = 4
TITLES = (
    "image",
    "raters",
    "samples, consensus bold",
    "confidence",
    "raters' mean",
    *(f"sample {k}" for k in range(SHOWN_SAMPLES)),
)


def render_evaluation(
    shown: list[tuple[str, Case, Segmentation]], reliability: tuple[ReliabilityBin, ...]
) -> Image.Image:
    """Render the images of an evaluation with captions, and the reliability diagram below them.

    shown: caption, case and result of each image.
    """
    rows = render_sheet([(case, result) for _, case, result in shown], [caption for caption, _, _ in shown])
    diagram = render_reliability(reliability)
    sheet = Image.new("RGB", (rows.width, rows.height + diagram.height), BACKGROUND)
    sheet.paste(rows)
    sheet.paste(diagram, (GAP, rows.height))
    return sheet


def render_sheet(results: list[tuple[Case, Segmentation]], captions: list[str] | None = None) -> Image.Image:
    """Render one row for each case: image, raters, samples with consensus, confidence, raters' mean, first samples."""
    rows = [_row(case, result) for case, result in results]
    if captions is not None:
        rows = [(f"{caption}   {name}", panels) for caption, (name, panels) in zip(captions, rows, strict=True)]
    width = len(TITLES) * (PANEL + GAP) + GAP
    sheet = Image.new("RGB", (width, HEADING * 2 + len(rows) * (PANEL + GAP + 16)), BACKGROUND)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=13)
    for column, title in enumerate(TITLES):
        pen.text((GAP + column * (PANEL + GAP), 6), title, fill=(238, 240, 244), font=font)
    for index, (name, panels) in enumerate(rows):
        y = HEADING + index * (PANEL + GAP + 16)
        for column, panel in enumerate(panels):
            sheet.paste(Image.fromarray(panel), (GAP + column * (PANEL + GAP), y))
        pen.text((GAP, y + PANEL + 1), name, fill=(160, 166, 176), font=font)
    pen.text((GAP, sheet.height - 20), NOTICE, fill=(160, 166, 176), font=font)
    return sheet


def _row(case: Case, result: Segmentation) -> tuple[str, list[Canvas]]:
    height, width = case.image.shape[:2]
    field = result.placement.field.clipped(height, width)
    side = max(min(field.width, field.height), 1)
    x, y = field.center
    view = Viewport.fitting(Box.around(x, y, side, side).clipped(height, width), PANEL)
    photo = photograph(case.image, view)
    several = result.masks.ndim == 4  # the union of the classes is shown
    masks: Bool = np.asarray(result.masks.any(axis=1) if several else result.masks)
    consensus: Bool = np.asarray(result.consensus.any(axis=0) if several else result.consensus)
    confidence: Float32 = np.asarray(result.confidence.max(axis=0) if several else result.confidence)
    marked: Bool = case.masks > 0
    raters, samples = photo.copy(), photo.copy()
    for index, mask in enumerate(marked):
        paint_outline(raters, outline_on_screen(mask, view), RATERS[index % len(RATERS)], width=1.6)
    for mask in masks:
        paint_outline(samples, outline_on_screen(mask, view), SAMPLE, width=1.0, opacity=0.6)
    paint_outline(samples, outline_on_screen(consensus, view), CONSENSUS, width=2.4)
    single = []
    for mask in masks[:SHOWN_SAMPLES]:
        panel = photo.copy()
        paint_outline(panel, outline_on_screen(mask, view), SAMPLE, width=1.8)
        single.append(panel)
    maps = [colored(photo, values, view) for values in (confidence, _mean(case.masks))]
    panels = [photo, raters, samples, *maps, *single]
    empty = f"{int(np.sum(~marked.any(axis=(1, 2))))} of {len(marked)} raters, {int(np.sum(~masks.any(axis=(1, 2))))} of {len(masks)} samples empty"
    return f"{case.name}   {empty}", [_square(panel) for panel in panels]


def _mean(labels: Labels) -> Float32:
    return np.asarray((labels > 0).mean(axis=0), np.float32)


def _square(panel: Canvas) -> Canvas:
    """Crop or pad to the size of a panel: views of boxes with odd sides are a few pixels smaller."""
    height, width = panel.shape[:2]
    return np.pad(panel[:PANEL, :PANEL], ((0, max(PANEL - height, 0)), (0, max(PANEL - width, 0)), (0, 0)))
