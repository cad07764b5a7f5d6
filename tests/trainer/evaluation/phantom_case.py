"""A case for the tests of the evaluation."""

import numpy as np

from medseg_trainer.data.layouts import Case


def make_case(raters=4, classes=1):
    rng = np.random.default_rng(0)
    masks = np.zeros((raters, 128, 128), np.uint8)
    for rater in range(raters):
        masks[rater, 50 + rater : 70, 52:75] = 1 + rater % classes
    return Case(name="a", group="p", image=rng.integers(0, 256, (128, 128), np.uint8), masks=masks)
