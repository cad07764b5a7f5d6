"""JSON is read strictly: a value of another type is a TypeError, whatever it is."""

from dataclasses import dataclass

import pytest

from medseg_runtime.files.typed_json import parse_json, typed


@dataclass(frozen=True)
class Point:
    x: float
    name: str | None = None


def test_whole_numbers_are_floats_where_a_float_is_asked_for():
    assert typed(Point, parse_json('{"x": 3}'), "it") == Point(3.0)


@pytest.mark.parametrize("number", ["1" + "0" * 400, "-1" + "0" * 400])
def test_a_number_larger_than_any_float_is_of_another_type(number):
    with pytest.raises(TypeError, match=r"^it\.x is larger than any float$"):
        typed(Point, parse_json(f'{{"x": {number}}}'), "it")
