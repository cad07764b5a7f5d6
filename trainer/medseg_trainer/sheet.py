"""A sheet of pictures: image, raters' contours, samples' contours and confidence, one case a row."""

from __future__ import annotations

import numpy as np
from PIL import Image

from medseg_runtime.segmenter import Segmentation
from medseg_trainer.data import Case


def draw_sheet(results: list[tuple[Case, Segmentation]]) -> Image.Image:
    """Draw it."""
    rows = []
    for case, result in results:
        f = result.placement.field.clipped(*case.image.shape[:2])
        s = np.s_[f.y : f.y + f.height, f.x : f.x + f.width]
        im = np.asarray(case.image)[s]
        im = im if im.ndim == 2 else im.mean(axis=2)
        masks = result.masks if result.masks.ndim == 3 else result.masks.any(axis=1)
        tiles = [im] + [255 * (m[s] > 0) for m in case.masks[:4]] + [255 * m[s] for m in masks[:8]] + [255 * masks.mean(0)[s]]
        rows.append(np.concatenate([np.asarray(Image.fromarray(t.astype(np.uint8)).resize((96, 96), 0)) for t in tiles], 1))
    return Image.fromarray(np.concatenate(rows, 0))
