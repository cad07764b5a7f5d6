"""The two pictures of a result that people look at first.

draw_overlay    outlines of all samples and the consensus | the confidence as colour, with its scale
draw_samples    each sample by itself
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from medseg_runtime.drawing import (
    Bool,
    Colour,
    Float32,
    View,
    blend,
    draw_outline,
    inferno,
    outline_on_screen,
    photograph,
)
from medseg_runtime.imaging import Box, Pixels
from medseg_runtime.segmentation import Segmentation

NOTICE = "Research software, not a medical device"
"""Stands under every picture and in every result.json."""

PANEL, TILE, LOCATOR = 640, 150, 112
"""Longer side, in screen pixels, of a panel, of one sample and of the small map that shows where the view lies."""
MAX_TILES = 64
VISIBLE = 0.25
"""A finding whose extent is a smaller part of the image than this is zoomed into ..."""
ZOOMED = 0.36
"""... until it is this part of the view."""
MIN_VIEW = 32
"""Fewer image pixels than this are not enlarged to a panel: one could not tell where one is."""

PAD, SMALL, MEDIUM = 24, 15, 18
PAPER: Colour = (18, 20, 24)
INK: Colour = (238, 240, 244)
FAINT: Colour = (160, 166, 176)
CONSENSUS: tuple[Colour, ...] = ((255, 214, 70), (110, 225, 130), (255, 135, 100), (120, 190, 255), (235, 140, 235))
"""Bold outline of each class, in turn."""
BY_SIZE: tuple[Colour, ...] = ((70, 200, 255), (150, 145, 255), (255, 105, 190))
"""Outlines of the samples, from the smallest to the largest."""


def draw_overlay(pixels: Pixels, segmentation: Segmentation, *, title: str | None = None) -> Image.Image:
    """Draw the outlines over the image, and beside it the confidence.

    pixels: (H, W) or (H, W, 3), the image that was segmented.
    """
    masks, confidence, consensus = _with_class_axis(segmentation)
    view = View.fitting(_zoom(masks, segmentation.placement.field, ZOOMED, MIN_VIEW), PANEL)
    left = photograph(pixels, view)
    right = _confidence(left, confidence, view)
    for sample, colours in zip(masks, _colours(masks), strict=True):
        for mask, colour in zip(sample, colours, strict=True):
            draw_outline(left, outline_on_screen(mask, view), colour, width=1.4, opacity=0.75)
    for mask, colour in zip(consensus, _consensus_colours(len(consensus)), strict=True):
        outline = outline_on_screen(mask, view)
        draw_outline(left, outline, PAPER, width=4.6, opacity=0.6)
        draw_outline(left, outline, colour, width=2.7)
        draw_outline(right, outline, INK, width=1.4, opacity=0.9)
    return _two_panels(_picture(left), _picture(right), _locator(pixels, view), segmentation, title)


def draw_samples(pixels: Pixels, segmentation: Segmentation, *, title: str | None = None) -> Image.Image:
    """Draw the outline of each sample on a picture of its own, the first `MAX_TILES` of them.

    pixels: (H, W) or (H, W, 3), the image that was segmented.
    """
    count = segmentation.samples
    shown = range(min(count, MAX_TILES))
    heading = title or (f"{len(shown)} of {count} samples" if len(shown) < count else _count(count, "sample"))
    return _draw_tiles(pixels, segmentation, {k: f"{k:02d}" for k in shown}, heading)


def draw_representatives(
    pixels: Pixels, segmentation: Segmentation, numbers: npt.NDArray[np.int64], weights: npt.NDArray[np.float64]
) -> Image.Image:
    """Draw the samples that stand for all, each with its share.

    pixels: (H, W) or (H, W, 3). numbers, weights: (K,), of `Segmentation.representatives`.
    """
    labels = {int(k): f"{k:02d}: {weight:.0%}" for k, weight in zip(numbers[:MAX_TILES], weights, strict=False)}
    return _draw_tiles(
        pixels, segmentation, labels, f"{len(labels)} that stand for {_count(segmentation.samples, 'sample')}"
    )


def _draw_tiles(pixels: Pixels, segmentation: Segmentation, labels: dict[int, str], heading: str) -> Image.Image:
    """Draw some samples, number => label, on a picture each."""
    masks, _, _ = _with_class_axis(segmentation)
    view = View.fitting(_zoom(masks, segmentation.placement.field, 0.6, 16), TILE)
    photo, colours = photograph(pixels, view), _colours(masks)
    columns = math.ceil(math.sqrt(len(labels)))
    width, height = view.size
    step_x, step_y = max(width, 90) + 14, height + 36
    page, pen = _page(max(columns * step_x - 14, 360), math.ceil(len(labels) / columns) * step_y + 58)
    _text(pen, PAD, PAD - 4, heading, size=MEDIUM, width=page.width - 2 * PAD)
    for place, (k, label) in enumerate(labels.items()):
        tile = photo.copy()
        for mask, colour in zip(masks[k], colours[k], strict=True):
            outline = outline_on_screen(mask, view)
            draw_outline(tile, outline, PAPER, width=3.6, opacity=0.5)
            draw_outline(tile, outline, colour, width=1.8)
        x, y = PAD + place % columns * step_x, PAD + 32 + place // columns * step_y
        page.paste(_picture(tile), (x, y))
        _text(pen, x, y + height + 5, label)
        area = np.count_nonzero(masks[k])
        _text(pen, x + 30 + 8 * (len(label) - 2), y + height + 5, f"{area} px" if area else "empty", colour=FAINT)
    _text(pen, PAD, page.height - PAD - SMALL, NOTICE, colour=FAINT)
    return page


def key_figures(segmentation: Segmentation) -> list[str]:
    """Return what the samples say in numbers: how many, how alike, how large."""
    count = segmentation.samples
    areas = segmentation.areas.reshape(count, -1).sum(axis=1)
    low, high, empty = int(areas.min()), int(areas.max()), int(np.count_nonzero(areas == 0))
    settled = {None: "", True: ", settled", False: ", not settled"}[segmentation.settled]
    figures = [_count(count, "sample") + settled + (f", {empty} of them empty" if empty else "")]
    agreement = np.atleast_1d(segmentation.mean_pairwise_iou)
    if np.isfinite(agreement).all():
        figures.append("mean pairwise IoU " + " / ".join(f"{value:.2f}" for value in agreement))
    return [*figures, f"area {low} px" if low == high else f"area {low} to {high} px"]


def _with_class_axis(segmentation: Segmentation) -> tuple[Bool, Float32, Bool]:
    """Return masks (N, F, H, W), confidence (F, H, W) and consensus (F, H, W)."""
    if segmentation.masks.ndim == 4:
        return segmentation.masks, segmentation.confidence, segmentation.consensus
    return segmentation.masks[:, None], segmentation.confidence[None], segmentation.consensus[None]


def _zoom(masks: Bool, field: Box, share: float, least: int) -> Box:
    """Return what to show: the whole image, or where the masks take less than `VISIBLE` of it, a square round them.

    masks: (N, F, H, W). share: of the view that the masks take. least: side of the view, in image pixels.
    """
    height, width = masks.shape[2:]
    union: Bool = np.logical_or.reduce(masks, axis=(0, 1))
    if union.any():
        top, bottom = np.flatnonzero(union.any(axis=1))[[0, -1]].tolist()
        left, right = np.flatnonzero(union.any(axis=0))[[0, -1]].tolist()
        x, y, extent = (left + right + 1) / 2, (top + bottom + 1) / 2, max(right - left, bottom - top) + 1
        side = max(math.ceil(extent / share), least)
        large = extent >= VISIBLE * max(height, width)
    else:
        (x, y), side = field.centre, max(field.width, field.height)
        large = False
    if large or side >= max(height, width):
        return Box(x=0, y=0, width=width, height=height)
    box_width, box_height = min(side, width), min(side, height)
    box = Box.around(x, y, box_width, box_height)
    return Box(
        x=min(max(box.x, 0), width - box_width),
        y=min(max(box.y, 0), height - box_height),
        width=box_width,
        height=box_height,
    )


def _colours(masks: Bool) -> list[list[Colour]]:
    """Return the colour of each sample and class: by rank of size, or one for each of several classes."""
    count, classes = masks.shape[:2]
    if classes > 1:
        return [_consensus_colours(classes)] * count
    rank = np.argsort(np.argsort(np.count_nonzero(masks, axis=(1, 2, 3)), kind="stable"))
    return [[_by_size(int(r) / max(count - 1, 1))] for r in rank]


def _by_size(position: float) -> Colour:
    knots = np.linspace(0, 1, len(BY_SIZE))
    red, green, blue = (round(float(np.interp(position, knots, channel))) for channel in zip(*BY_SIZE, strict=True))
    return red, green, blue


def _consensus_colours(classes: int) -> list[Colour]:
    return [CONSENSUS[index % len(CONSENSUS)] for index in range(classes)]


def _confidence(photo: Float32, confidence: Float32, view: View) -> Float32:
    """Colour the dimmed photograph by the confidence, of several classes by the highest."""
    highest = np.asarray(view.nearest(confidence.max(axis=0)), np.float32)
    canvas: Float32 = 0.55 * photo
    blend(canvas, inferno(highest), np.where(highest > 0, np.float32(0.9), np.float32(0)))
    return canvas


def _locator(pixels: Pixels, view: View) -> Image.Image | None:
    """Draw the whole image, small, with a frame round what is shown; nothing where all of it is shown."""
    height, width = pixels.shape[:2]
    whole = View.fitting(Box(x=0, y=0, width=width, height=height), LOCATOR)
    if view.box == whole.box:
        return None
    picture = _picture(photograph(pixels, whole))
    x, y = view.box.x * whole.scale, view.box.y * whole.scale
    frame = (x, y, x + view.box.width * whole.scale - 1, y + view.box.height * whole.scale - 1)
    ImageDraw.Draw(picture).rectangle(frame, outline=CONSENSUS[0])
    return picture


def _two_panels(
    left: Image.Image, right: Image.Image, locator: Image.Image | None, segmentation: Segmentation, title: str | None
) -> Image.Image:
    """Lay out title, panels with their headings and keys, and the figures under them."""
    wide, high = left.width, left.height
    column = max(wide, 380)  # a narrow picture still has room for its heading
    x_left, x_right = PAD, PAD + column + PAD
    top = PAD + (34 if title else 0) + 28
    bottom = top + high
    page, pen = _page(2 * column + PAD + 96, bottom + (max(84, LOCATOR if locator else 0) + 14) - PAD)
    if title:
        _text(pen, PAD, PAD - 6, title, size=22, width=page.width - 2 * PAD)
    count = segmentation.samples
    _text(pen, x_left, top - 28, _count(count, "plausible outline"), size=MEDIUM)
    _text(pen, x_right, top - 28, "Confidence: share of samples that contain the pixel", size=MEDIUM)
    page.paste(left, (x_left, top))
    page.paste(right, (x_right, top))
    _colour_bar(page, x_right + wide + 12, top, high, count)
    text_x = x_left
    if locator:
        page.paste(locator, (x_left, bottom + 14))
        text_x += locator.width + 16
    _key(pen, text_x, bottom + 14, segmentation.classes)
    _text(pen, text_x, bottom + 42, "   |   ".join(key_figures(segmentation)), width=page.width - PAD - text_x)
    _text(pen, text_x, bottom + 66, NOTICE, colour=FAINT)
    return page


def _colour_bar(page: Image.Image, x: int, y: int, height: int, count: int) -> None:
    """Draw the scale from 0 to 1, as seen over black, and its ends as fractions of the samples."""
    ramp = np.linspace(1, 0, height, dtype=np.float32)
    page.paste(_picture(np.repeat(inferno(ramp)[:, None], 16, axis=1)), (x, y))
    pen = ImageDraw.Draw(page)
    for value in (0.0, 0.25, 0.5, 0.75, 1.0) if height > 150 else (0.0, 1.0):
        at = y + round((1 - value) * (height - 1))
        pen.line((x + 16, at, x + 20, at), fill=INK)
        _text(pen, x + 24, at - SMALL // 2 - 2, f"{value:g}")
    _text(pen, x + 24, y + 12, f"{count}/{count}", colour=FAINT)


def _key(pen: ImageDraw.ImageDraw, x: int, y: int, classes: Sequence[str]) -> None:
    """Explain the lines: the samples' colours, and each class's consensus."""
    middle = y + SMALL // 2 + 2
    if len(classes) == 1:
        for step in range(36):
            pen.line((x + step, middle - 1, x + step, middle), fill=_by_size(step / 35))
        x = _text(pen, x + 44, y, "samples, smallest to largest") + 24
    for name, colour in zip(classes, _consensus_colours(len(classes)), strict=True):
        pen.rectangle((x, middle - 2, x + 36, middle + 1), fill=colour)
        label = "consensus of more than half" if len(classes) == 1 else f"{name}, bold: consensus"
        x = _text(pen, x + 44, y, label) + 24


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _picture(canvas: Float32) -> Image.Image:
    """(h, w, 3) float32 in [0, 255] => picture."""
    return Image.fromarray(np.rint(canvas).clip(0, 255).astype(np.uint8))


def _page(width: int, height: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """Return an empty page with a margin round (width, height), and its pen."""
    page = Image.new("RGB", (width + 2 * PAD, height + 2 * PAD), PAPER)
    return page, ImageDraw.Draw(page)


def _text(
    pen: ImageDraw.ImageDraw,
    x: int,
    y: int,
    text: str,
    *,
    size: int = SMALL,
    colour: Colour = INK,
    width: int | None = None,
) -> int:
    """Write one line, cut short with dots where it is wider than `width`; return where it ends."""
    font = _font(size)
    if width is not None and font.getlength(text) > width:
        while text and font.getlength(text + "...") > width:
            text = text[:-1]
        text += "..."
    pen.text((x, y), text, fill=colour, font=font)
    return x + round(font.getlength(text))


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return Pillow's own font, which it would decode again for every line."""
    return ImageFont.load_default(size)
