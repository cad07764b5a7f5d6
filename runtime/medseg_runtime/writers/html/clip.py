"""The report of a clip: one page with a slider over its frames, or over some of them if there are many."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg_runtime.figures.photo import window_of
from medseg_runtime.model.preprocess import Box
from medseg_runtime.result.segmentation import Segmentation
from medseg_runtime.writers.html.page import report_page
from medseg_runtime.writers.html.report import common, reduced_note, title_of
from medseg_runtime.writers.html.sizes import sizes
from medseg_runtime.writers.html.slices import SMALL_BACKGROUND, carried, step_of

MOST_FRAMES = 60
"""Frames in a page. Of a longer clip every second, fourth, eighth ... frame is kept, so that memory does not grow."""
LONGEST = 512
"""Longer side of a frame and its masks, in pixels."""


class ClipReport:
    """Takes the results of frames one by one."""

    def __init__(self) -> None:
        """Start without frames."""
        self._frames: list[dict[str, Any]] = []
        self._stride, self._count = 1, 0
        self._sizes: npt.NDArray[np.int64] = np.zeros(1, np.int64)
        self._first: Segmentation | None = None

    def add(self, result: Segmentation) -> None:
        """Take the next frame."""
        self._first = result if self._first is None else self._first
        self._sizes = self._sizes + result.areas.reshape(result.samples, -1).sum(axis=1)
        if self._count % self._stride == 0:
            if len(self._frames) == MOST_FRAMES:
                self._frames, self._stride = self._frames[::2], 2 * self._stride
            if self._count % self._stride == 0:
                self._frames.append(_frame(result))
        self._count += 1

    def page(self, record: Mapping[str, Any]) -> bytes:
        """Return the page of all frames so far, at least one. record: the content of result.json."""
        assert self._first is not None
        home = asdict(_view(self._first))
        return report_page(
            title_of(self._first),
            common(self._first, record)
            | {
                "home": home,
                "near": home,
                "note": self._note(step_of(self._first, LONGEST)),
                "sizes": self._sizes.tolist(),
                "start": 0,
                "slice": "Frame",
                "slices": self._frames,
                "measurements": [],
                "representatives": [],
            },
        )

    def _note(self, step: int) -> str:
        kept = (
            f"{len(self._frames)} of {self._count} frames are shown; the overlay plays all." if self._stride > 1 else ""
        )
        return " ".join(filter(None, (kept, reduced_note(step))))


def _frame(result: Segmentation) -> dict[str, Any]:
    source = result.source
    window = window_of(source.pixels, _view(result))
    label = f"{source.frame}, {source.time_s or 0.0:.2f} s"
    frame = carried(result, window, _view(result), label=label, longest=LONGEST, background=SMALL_BACKGROUND)
    return frame | {"measurements": sizes(result.measurements)}


def _view(result: Segmentation) -> Box:
    """Return what is shown of all frames: the field that was pointed at, or the whole image."""
    height, width = result.source.pixels.shape[:2]
    return result.placement.seen if result.placement.pointed_at else Box(x=0, y=0, width=width, height=height)
