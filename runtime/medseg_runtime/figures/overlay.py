"""The pages of a result, as screen arrays.

render_overlay            outlines of all samples and the consensus | the confidence in color, with its scale
render_frame              the same of one frame of a clip
render_samples            each sample in a tile
render_representatives    the representative samples, each with its share
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from medseg_runtime.figures.contours import joined, outlines_on_screen, paint_outline
from medseg_runtime.figures.photo import colored, inferno, photograph
from medseg_runtime.figures.text import FAINT, INK, LARGE, MEDIUM, PAPER, SMALL, blank, write
from medseg_runtime.figures.viewport import Bool, Canvas, Color, Float32, Viewport
from medseg_runtime.model.preprocess import Box, Pixels
from medseg_runtime.result.representatives import Representatives
from medseg_runtime.result.segmentation import Segmentation
from medseg_runtime.result.summary import NOTICE

PANEL, TILE, LOCATOR = 512, 150, 112
"""Longer side, in screen pixels, of a panel, of a sample's tile, and of the locator map."""
MAX_TILES = 64
VISIBLE = 0.25
"""Masks with a smaller extent, as a fraction of the image, are zoomed in on ..."""
ZOOMED = 0.36
"""... until they take this fraction of the view."""
MIN_VIEW = 32
"""Smallest side of a view, in image pixels: less does not show where it is."""
ZOOMED_TILE = 0.6, 16
"""The same two of a tile, which is small."""

PAD = 24
"""Margin of a page, in screen pixels."""
CONSENSUS: tuple[Color, ...] = ((255, 214, 70), (110, 225, 130), (255, 135, 100), (120, 190, 255), (235, 140, 235))
"""Colors of the consensus outlines, one per class, repeated."""
BY_SIZE: tuple[Color, ...] = ((70, 200, 255), (150, 145, 255), (255, 105, 190))
"""Colors of the samples' outlines, from the smallest to the largest."""


def render_overlay(pixels: Pixels, segmentation: Segmentation, *, title: str | None = None) -> Canvas:
    """Render the outlines over the image, and the confidence beside it.

    pixels: (H, W) or (H, W, 3), the image that was segmented.
    """
    masks, *_ = with_class_axis(segmentation)
    view = Viewport.fitting(view_of(segmentation), PANEL)
    left, right = _panels(pixels, segmentation, view, _colors(masks))
    return _render_panels(left, right, _locator(pixels, view), segmentation, title, "samples, smallest to largest")


def view_of(segmentation: Segmentation, share: float = ZOOMED, least: int = MIN_VIEW) -> Box:
    """Return the part of the image that the overlay shows, which also fixes its window.

    share: fraction of the view that the masks take. least: smallest side of the view, in image pixels.
    """
    masks, *_ = with_class_axis(segmentation)
    return _zoom(masks, segmentation.placement.field, share, least)


def render_frame(segmentation: Segmentation) -> Canvas:
    """Render a frame of a clip like `render_overlay`. All frames have the same size, view and colors: a sample keeps its own."""
    source, placement = segmentation.source, segmentation.placement
    height, width = source.pixels.shape[:2]
    box = placement.seen if placement.pointed_at else Box(x=0, y=0, width=width, height=height)
    view = Viewport.fitting(box, PANEL)
    masks, *_ = with_class_axis(segmentation)
    count, classes = masks.shape[:2]
    numbered = _by_size(np.linspace(0, 1, count))[:, None] if classes == 1 else _colors(masks)
    left, right = _panels(source.pixels, segmentation, view, numbered)
    title = f"frame {source.frame}, {source.time_s or 0.0:.2f} s"
    return _render_panels(left, right, _locator(source.pixels, view), segmentation, title, "samples, by number")


def _panels(pixels: Pixels, segmentation: Segmentation, view: Viewport, colors: Float32) -> tuple[Canvas, Canvas]:
    """Render the outlines over the image, and the confidence. colors: (N, F, 3) of each sample and class."""
    masks, confidence, consensus = with_class_axis(segmentation)
    left = photograph(pixels, view)
    right = colored(left, confidence.max(axis=0), view)  # of several classes the highest
    samples = outlines_on_screen(masks.reshape(-1, *masks.shape[2:]), view)
    for outline, color in zip(samples, colors.reshape(-1, 3), strict=True):
        paint_outline(left, outline, color, width=1.4, opacity=0.75)
    for outline, bold in zip(outlines_on_screen(consensus, view), _consensus_colors(len(consensus)), strict=True):
        paint_outline(left, outline, PAPER, width=4.6, opacity=0.6)
        paint_outline(left, outline, bold, width=2.7)
        paint_outline(right, outline, INK, width=1.4, opacity=0.9)
    return left, right


def render_samples(pixels: Pixels, segmentation: Segmentation, *, title: str | None = None) -> Canvas:
    """Render the outline of each sample in a tile; the first `MAX_TILES` only.

    pixels: (H, W) or (H, W, 3), the image that was segmented.
    """
    count = segmentation.samples
    numbers = range(min(count, MAX_TILES))
    heading = title or (f"{len(numbers)} of {count} samples" if len(numbers) < count else _count(count, "sample"))
    return _render_tiles(pixels, segmentation, {k: f"{k:02d}" for k in numbers}, heading)


def render_representatives(pixels: Pixels, segmentation: Segmentation, chosen: Representatives) -> Canvas:
    """Render the representative samples, each with its share of all samples.

    pixels: (H, W) or (H, W, 3), the image that was segmented. chosen: of `Segmentation.representatives`.
    """
    pairs = zip(chosen.samples[:MAX_TILES], chosen.shares, strict=False)
    labels = {int(k): f"{k:02d}: {share:.0%}" for k, share in pairs}
    return _render_tiles(
        pixels, segmentation, labels, f"{len(labels)} that stand for {_count(segmentation.samples, 'sample')}"
    )


def _render_tiles(pixels: Pixels, segmentation: Segmentation, labels: dict[int, str], heading: str) -> Canvas:
    """Render samples in tiles; labels: sample number -> label."""
    masks, _, _ = with_class_axis(segmentation)
    numbers, colors = list(labels), _colors(masks)
    view = Viewport.fitting(view_of(segmentation, *ZOOMED_TILE), TILE)
    photo, (width, height) = photograph(pixels, view), view.size
    columns = math.ceil(math.sqrt(len(labels)))
    step_x, step_y = max(width, 90) + 14, height + 36
    page = _page(max(columns * step_x - 14, 360), math.ceil(len(labels) / columns) * step_y + 58)
    write(page, PAD, PAD - 4, heading, size=MEDIUM, width=page.shape[1] - 2 * PAD)
    places = [(PAD + k % columns * step_x, PAD + 32 + k // columns * step_y) for k in range(len(labels))]
    for (x, y), (k, label) in zip(places, labels.items(), strict=True):
        page[y : y + height, x : x + width] = photo
        write(page, x, y + height + 5, label)
        area = np.count_nonzero(masks[k])
        write(page, x + 30 + 8 * (len(label) - 2), y + height + 5, f"{area} px" if area else "empty", color=FAINT)
    for index in range(masks.shape[1]):
        traced = outlines_on_screen(masks[numbers, index], view)
        outlines = [one.moved(*place) for one, place in zip(traced, places, strict=True)]
        shades = np.repeat(colors[numbers, index], [len(one.turn) for one in outlines], axis=0)
        paint_outline(page, joined(outlines), PAPER, width=3.6, opacity=0.5)
        paint_outline(page, joined(outlines), shades, width=1.8)
    write(page, PAD, page.shape[0] - PAD - SMALL, NOTICE, color=FAINT)
    return page


def key_figures(segmentation: Segmentation) -> list[str]:
    """Return the key figures as text: number of samples, agreement, and area in pixels."""
    low, high = int((areas := _areas(segmentation)).min()), int(areas.max())
    return [*agreement_figures(segmentation), f"area {low} px" if low == high else f"area {low} to {high} px"]


def agreement_figures(segmentation: Segmentation) -> list[str]:
    """Return number of samples and agreement as text."""
    count, empty = segmentation.samples, int(np.count_nonzero(_areas(segmentation) == 0))
    settled = {None: "", True: ", settled", False: ", not settled"}[segmentation.settled]
    figures = [_count(count, "sample") + settled + (f", {empty} of them empty" if empty else "")]
    agreement = np.atleast_1d(segmentation.mean_pairwise_iou)
    if np.isfinite(agreement).all():
        figures.append("mean pairwise IoU " + " / ".join(f"{value:.2f}" for value in agreement))
    return figures


def _areas(segmentation: Segmentation) -> npt.NDArray[np.int64]:
    """Return the pixels of each sample in any class, (N,)."""
    return np.asarray(segmentation.areas.reshape(segmentation.samples, -1).sum(axis=1), np.int64)


def with_class_axis(segmentation: Segmentation) -> tuple[Bool, Float32, Bool]:
    """Return masks (N, F, H, W), confidence (F, H, W) and consensus (F, H, W)."""
    if segmentation.masks.ndim == 4:
        return segmentation.masks, segmentation.confidence, segmentation.consensus
    return segmentation.masks[:, None], segmentation.confidence[None], segmentation.consensus[None]


def _zoom(masks: Bool, field: Box, share: float, least: int) -> Box:
    """Return the part to show: the whole image, or a square around masks that take less than `VISIBLE` of it.

    masks: (N, F, H, W). share: fraction of the view that the masks take. least: smallest side of the view, in image pixels.
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
        (x, y), side = field.center, max(field.width, field.height)
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


def _colors(masks: Bool) -> Float32:
    """Return the color of each sample and class, (N, F, 3): by rank of area, or by class if there are several."""
    count, classes = masks.shape[:2]
    if classes > 1:
        return np.tile(np.array(_consensus_colors(classes), np.float32), (count, 1, 1))
    rank = np.argsort(np.argsort(np.count_nonzero(masks, axis=(1, 2, 3)), kind="stable"))
    return _by_size(rank / max(count - 1, 1))[:, None]


def _by_size(positions: npt.NDArray[np.float64]) -> Float32:
    """Return colors from the smallest sample (0) to the largest (1): (n,) => (n, 3)."""
    knots = np.linspace(0, 1, len(BY_SIZE))
    channels = [np.interp(positions, knots, channel) for channel in zip(*BY_SIZE, strict=True)]
    return np.stack(channels, axis=-1).astype(np.float32)


def _consensus_colors(classes: int) -> list[Color]:
    return [CONSENSUS[index % len(CONSENSUS)] for index in range(classes)]


def _locator(pixels: Pixels, view: Viewport) -> Canvas | None:
    """Render a small map of the whole image with a frame around the view; None if the view is the whole image."""
    height, width = pixels.shape[:2]
    whole = Viewport.fitting(Box(x=0, y=0, width=width, height=height), LOCATOR)
    if view.box == whole.box:
        return None
    picture = photograph(pixels, whole)
    high, wide = picture.shape[:2]
    left, top = min(int(view.box.x * whole.scale), wide - 1), min(int(view.box.y * whole.scale), high - 1)
    right = min(max(int(left + view.box.width * whole.scale) - 1, left), wide - 1)
    bottom = min(max(int(top + view.box.height * whole.scale) - 1, top), high - 1)
    for edge in (
        np.s_[top, left : right + 1],
        np.s_[bottom, left : right + 1],
        np.s_[top : bottom + 1, left],
        np.s_[top : bottom + 1, right],
    ):
        picture[edge] = CONSENSUS[0]
    return picture


def _render_panels(
    left: Canvas, right: Canvas, locator: Canvas | None, segmentation: Segmentation, title: str | None, samples: str
) -> Canvas:
    """Lay out the title, the panels with headings and keys, and the key figures. samples: what their colors mean."""
    high, wide = left.shape[:2]
    column = max(wide, 380)  # room for the heading over a narrow image
    x_left, x_right = PAD, PAD + column + PAD
    top = PAD + (34 if title else 0) + 28
    bottom = top + high
    page = _page(2 * column + PAD + 96, bottom + (max(84, LOCATOR if locator is not None else 0) + 14) - PAD)
    if title:
        write(page, PAD, PAD - 6, title, size=LARGE, width=page.shape[1] - 2 * PAD)
    count = segmentation.samples
    write(page, x_left, top - 28, _count(count, "plausible outline"), size=MEDIUM)
    write(page, x_right, top - 28, "Confidence: share of samples that contain the pixel", size=MEDIUM)
    page[top:bottom, x_left : x_left + wide] = left
    page[top:bottom, x_right : x_right + wide] = right
    _color_bar(page, x_right + wide + 12, top, high, count)
    text_x = x_left
    if locator is not None:
        page[bottom + 14 : bottom + 14 + locator.shape[0], x_left : x_left + locator.shape[1]] = locator
        text_x += locator.shape[1] + 16
    _key(page, text_x, bottom + 14, segmentation.classes, samples)
    figures = "   |   ".join(key_figures(segmentation))
    write(page, text_x, bottom + 42, figures, width=page.shape[1] - PAD - text_x)
    write(page, text_x, bottom + 66, NOTICE, color=FAINT)
    return page


def _color_bar(page: Canvas, x: int, y: int, height: int, count: int) -> None:
    """Paint the color scale from 0 to 1, as over black, and label it."""
    page[y : y + height, x : x + 16] = inferno(np.linspace(1, 0, height, dtype=np.float32))[:, None]
    for value in (0.0, 0.25, 0.5, 0.75, 1.0) if height > 150 else (0.0, 1.0):
        at = y + round((1 - value) * (height - 1))
        page[at, x + 16 : x + 21] = INK
        write(page, x + 24, at - SMALL // 2 - 2, f"{value:g}")
    write(page, x + 24, y + 12, f"{count}/{count}", color=FAINT)


def _key(page: Canvas, x: int, y: int, classes: Sequence[str], samples: str) -> None:
    """Paint the key: the colors of the samples, and of each class's consensus."""
    middle = y + SMALL // 2 + 2
    if len(classes) == 1:
        page[middle - 1 : middle + 1, x : x + 36] = np.rint(_by_size(np.linspace(0, 1, 36)))
        x = write(page, x + 44, y, samples) + 24
    for name, color in zip(classes, _consensus_colors(len(classes)), strict=True):
        page[middle - 2 : middle + 2, x : x + 37] = color
        label = "consensus of at least half" if len(classes) == 1 else f"{name}, bold: consensus"
        x = write(page, x + 44, y, label) + 24


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _page(width: int, height: int) -> Canvas:
    """Return an empty page of (width, height) plus margins."""
    return blank(width + 2 * PAD, height + 2 * PAD)
