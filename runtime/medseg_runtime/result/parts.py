"""Split a mask into its connected parts, as runs of pixels along the rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Bool = npt.NDArray[np.bool_]
Run = tuple[int, int, int]
"""Row, first and last column of neighbouring pixels inside."""


def parts(mask: Bool) -> list[list[Run]]:
    """Return the 8-connected parts of a mask (H, W), each as its runs from the upper left to the lower right; none of an empty mask."""
    found = runs(mask)
    roots = _roots(found)
    grouped: dict[int, list[Run]] = {}
    for run, root in zip(found, roots, strict=True):
        grouped.setdefault(root, []).append(run)
    return list(grouped.values())


def runs(mask: Bool) -> list[Run]:
    """Return the runs of a mask (H, W), row by row."""
    inside = np.zeros((mask.shape[0], mask.shape[1] + 2), np.int8)
    inside[:, 1:-1] = mask
    edges = np.diff(inside, axis=1)
    rows, first = np.nonzero(edges > 0)
    return list(zip(rows.tolist(), first.tolist(), (np.nonzero(edges < 0)[1] - 1).tolist(), strict=True))


def _roots(found: Sequence[Run]) -> list[int]:
    """Return for each run the number of the first run of its part."""
    parent = list(range(len(found)))

    def root(run: int) -> int:
        while parent[run] != run:
            parent[run] = parent[parent[run]]
            run = parent[run]
        return run

    above = 0  # the first run of the row above that may touch this run or a later one
    for index, (row, first, last) in enumerate(found):
        while found[above][0] < row - 1 or (found[above][0] == row - 1 and found[above][2] < first - 1):
            above += 1
        touching = above
        while found[touching][0] == row - 1 and found[touching][1] <= last + 1:
            one, other = sorted((root(touching), root(index)))
            parent[other] = one
            touching += 1
    return [root(run) for run in range(len(found))]
