"""Read a data set in a test, and check the form of its errors."""

import re

import pytest

from medseg_runtime.errors import DataError
from medseg_trainer.data.layouts import read_cases

SENTENCE = re.compile(r"^[^\n]+[^.\n]\. [A-Z][^\n]+\.$")  # what is wrong. What to do about it.


def cases(data, split="train", num_classes=1):
    return list(read_cases(data, split, num_classes))


def refuses(match, data, split="train", num_classes=1):
    with pytest.raises(DataError, match=match) as caught:
        cases(data, split, num_classes)
    assert SENTENCE.match(str(caught.value)), str(caught.value)
