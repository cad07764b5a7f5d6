"""The sheet of a check: images with the outlines of their masks."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from medseg_runtime.figures.contours import outline_on_screen, paint_outline
from medseg_runtime.figures.photo import photograph
from medseg_runtime.figures.viewport import Canvas, Color, Viewport
from medseg_runtime.model.preprocess import Box
from medseg_trainer.data.case import Case

PANEL, GAP, CAPTION, COLUMNS = 256, 8, 34, 6
BACKGROUND: Color = (18, 20, 24)
TEXT: Color = (214, 218, 226)
COLORS: tuple[Color, ...] = (
    (255, 214, 70),
    (90, 200, 255),
    (255, 120, 90),
    (140, 230, 120),
    (240, 150, 240),
    (180, 170, 255),
)
"""Of raters, or of classes if there are several."""
LONGEST_LINE = 40


def render_panel(case: Case) -> Canvas:
    """Draw an image with the outlines of all raters: one color for each rater, or for each class if there are several."""
    height, width = case.image.shape[:2]
    scale = PANEL / max(height, width)
    view = Viewport(Box(x=0, y=0, width=width, height=height), float(int(scale)) if scale >= 1 else scale)
    canvas = photograph(case.image, view)
    several = int(case.masks.max(initial=0)) > 1
    for rater, labels in enumerate(case.masks):
        for number in np.unique(labels[labels > 0]):
            color = COLORS[(int(number) - 1 if several else rater) % len(COLORS)]
            paint_outline(canvas, outline_on_screen(labels == number, view), color, width=1.8)
    return canvas


def render_sheet(panels: list[tuple[str, Canvas]]) -> Image.Image:
    """Lay panels with their captions out in rows."""
    rows = max(-(-len(panels) // COLUMNS), 1)
    sheet = Image.new("RGB", (COLUMNS * (PANEL + GAP) + GAP, rows * (PANEL + CAPTION + GAP) + GAP), BACKGROUND)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=12)
    for index, (caption, panel) in enumerate(panels):
        x, y = GAP + index % COLUMNS * (PANEL + GAP), GAP + index // COLUMNS * (PANEL + CAPTION + GAP)
        sheet.paste(Image.fromarray(panel), (x, y + PANEL - panel.shape[0]))
        lines = [
            line if len(line) <= LONGEST_LINE else f"...{line[3 - LONGEST_LINE :]}" for line in caption.split("\n")
        ]
        pen.multiline_text((x, y + PANEL + 2), "\n".join(lines), fill=TEXT, font=font, spacing=1)
    return sheet
