"""Compare two models image by image."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from medseg_trainer.evaluation.statistics import CaseFigures, Figure, averages


def paired(first: Sequence[CaseFigures], second: Sequence[CaseFigures], names: Iterable[str]) -> dict[str, Figure]:
    """Average `first` minus `second` over the images where both have a figure.

    The 95 % interval comes from a bootstrap over patients. The models differ where it excludes zero.

    names: figures to compare. A figure is left out if either model lacks it, or if no image has it.
    """
    both = [name for name in names if name in first[0].values and name in second[0].values]
    differences = []
    for a, b in zip(first, second, strict=True):
        assert (a.name, a.group) == (b.name, b.group), "the two did not measure the same images"
        differences.append((a.group, {name: a.values[name] - b.values[name] for name in both}))
    return existing(averages(differences))


def existing(figures: dict[str, Figure]) -> dict[str, Figure]:
    """Drop figures that no image has, such as the diversity of a single mask."""
    return {name: figure for name, figure in figures.items() if not math.isnan(figure.mean)}
