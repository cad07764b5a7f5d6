"""Connected parts of masks, judged by SciPy."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.ndimage import label

from medseg_runtime.result.parts import parts, runs


@given(hnp.arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_parts_are_scipys_with_corners_counted_as_touching(mask):
    labels, count = label(mask, np.ones((3, 3)))
    found = []
    for part in parts(mask):
        drawn = np.zeros_like(mask)
        for row, first, last in part:
            drawn[row, first : last + 1] = True
        found.append(drawn)
    assert len(found) == count
    assert sorted(part.tolist() for part in found) == sorted((labels == k).tolist() for k in range(1, count + 1))


def test_runs_go_row_by_row():
    assert runs(np.array([[1, 1, 0, 1], [0, 0, 0, 0], [0, 0, 1, 1]], bool)) == [(0, 0, 1), (0, 3, 3), (2, 2, 3)]


def test_a_ring_is_one_part():
    ring = np.ones((5, 5), bool)
    ring[1:4, 1:4] = False
    assert len(parts(ring)) == 1
