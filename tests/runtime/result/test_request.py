"""A request that makes no sense is one error, before anything is computed."""

import numpy as np
import pytest

from medseg_runtime import ParameterError, SampleRequest
from medseg_runtime.testing import toy_segmenter


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"seed": 1.5}, r"seed=1\.5 is not a whole number"),
        ({"seed": True}, "seed=True is not a whole number"),
        ({"seed": None}, "seed=None is not a whole number"),
        ({"samples": 2.0}, r"samples=2\.0 is not a whole number"),
        ({"steps": 1.5}, r"steps=1\.5 is not a whole number"),
        ({"steps": "4"}, "steps='4' is not a whole number"),
        ({"samples": "auto", "max_samples": 8.0}, r"max_samples=8\.0 is not a whole number"),
        ({"threshold": "half"}, "threshold='half' is not a number"),
        ({"center": (1,)}, r"center=\(1,\) is not a point"),
        ({"center": (1, 2, 3)}, "is not a point"),
        ({"center": 5}, "center=5 is not a point"),
        ({"center": "12"}, "center='12' is not a point"),
        ({"center": (None, 1)}, "is not a point"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused(wrong, match):
    with pytest.raises(ParameterError, match=match):
        SampleRequest(**wrong)
    with pytest.raises(ParameterError, match=match):
        toy_segmenter()(np.zeros((80, 80), np.uint8), **wrong)


def test_numbers_of_numpy_are_numbers():
    SampleRequest(seed=np.int64(3), samples=np.uint8(2), threshold=np.float32(0.5), center=np.array([1.0, 2.0]))
