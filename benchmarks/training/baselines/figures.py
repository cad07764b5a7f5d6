"""Measure the masks of each image, and the probability map that they are thresholded from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from rich.progress import track

from medseg_runtime.inference.segmenter import Segmenter
from medseg_runtime.result.metrics import Calibration
from medseg_runtime.result.segmentation import Segmentation
from medseg_trainer.data.layouts import Case, Cases
from medseg_trainer.evaluation.evaluate import SampleSettings
from medseg_trainer.evaluation.statistics import CaseFigures, measure

SIXTEENTHS = 16
OF_A_MAP = ("consensus_dice", "consensus_iou", "small_dice", "small_iou", "hd95_px", "one_empty")
"""Figures that a probability map shares with its mask at 0.5."""
COMPARED = (
    "ged",
    "hm_iou",
    "consensus_dice",
    "consensus_iou",
    "small_dice",
    "hd95_px",
    "brier",
    "squared_error",
)


def measure_all(
    segmenter: Segmenter, cases: Cases, settings: SampleSettings, what: str
) -> tuple[list[CaseFigures], list[CaseFigures]]:
    """Return the figures of the masks of every image, and those of their mean probability.

    what: label of the progress bar.
    """
    masks, maps = [], []
    for case, result in settings.segment_all(segmenter, track(cases, what)):
        (figures,) = measure(case, result)
        masks.append(_with_squared_error(figures))
        maps.append(of_the_map(case, result, figures))
    return masks, maps


def of_the_map(case: Case, result: Segmentation, figures: CaseFigures) -> CaseFigures:
    """Return the figures of a probability map taken as confidence.

    The map is rounded to sixteenths, as sixteen samples would give it. Brier score and ECE leave out pixels where both maps are zero; a
    sigmoid never is, so all of the background would count in its favour. The squared error is a sum and needs no rounding.
    """
    raters, probability = case.masks > 0, result.mean_probability
    sixteenths = (np.round(SIXTEENTHS * probability) / SIXTEENTHS).astype(np.float32)
    calibration = Calibration.of(sixteenths, raters)
    values = {name: figures.values[name] for name in OF_A_MAP} | {
        "brier": calibration.brier,
        "squared_error": Calibration.of(probability, raters).squared_error,
    }
    return replace(figures, values=values, calibration=calibration)


def _with_squared_error(figures: CaseFigures) -> CaseFigures:
    """Add the squared error, summed over all pixels. It does not depend on how many pixels a model leaves at zero."""
    return replace(figures, values=figures.values | {"squared_error": figures.calibration.squared_error})
