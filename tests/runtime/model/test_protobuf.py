"""Equal messages of a file are read once, and count as often as they stand there."""

import pytest

from medseg_runtime.model import protobuf
from medseg_runtime.model.protobuf import Field, ProtobufError, read_message

SCHEMA = {
    "list": {1: Field("point", "point", repeated=True)},
    "point": {1: Field("x", "int"), 2: Field("y", "int")},
}
POINT = b"\x0a\x04\x08\x07\x10\x09"  # field 1 of 4 bytes: x = 7, y = 9
COUNTED = 3  # fields of each: the point, x and y


def read(copies):
    return read_message(POINT * copies, SCHEMA, "list", lambda _kind, _message: None)


def test_copies_have_the_same_content():
    assert read(5) == {"point": [{"x": 7, "y": 9}] * 5}


def test_copies_count_as_fields(monkeypatch):
    monkeypatch.setattr(protobuf, "MAX_FIELDS", 10 * COUNTED)
    assert len(read(10)["point"]) == 10
    with pytest.raises(ProtobufError, match="more than 30 fields"):
        read(11)
