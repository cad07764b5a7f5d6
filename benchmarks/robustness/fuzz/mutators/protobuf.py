"""Change a protobuf message field by field, with all lengths mended; https://protobuf.dev/programming-guides/encoding/."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

VARINT, FIXED64, DELIMITED, FIXED32 = 0, 1, 2, 5
WIDTH = {FIXED64: 8, FIXED32: 4}
MOST_DEPTH = 8
ODD_NUMBERS = (
    0,
    1,
    2,
    7,
    13,
    14,
    127,
    128,
    1 << 24,
    (1 << 31) - 1,
    1 << 31,
    1 << 32,
    (1 << 63) - 1,
    1 << 63,
    (1 << 64) - 1,
)
ODD_BYTES = (
    b"", b"\0", b"\xff", b"location", b"/etc/passwd", b"*/_ORT_MEM_ADDR_/*", b"Loop", b"If", b"ai.onnx.ml", b"a" * 600, b"-1",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Field:
    """A field as it is written."""

    number: int
    wire: int
    value: int | bytes | list[Field]
    """A list: the bytes are a message."""


def change(content: bytes, chance: Random) -> bytes:
    """Return the message with one to three changes.

    Raises:
        ValueError: it is no message.
    """
    fields = parse(content)
    for _ in range(chance.randint(1, 3)):
        _change_one(fields, chance)
    return written(fields, chance if chance.random() < 0.05 else None)


def parse(content: bytes, depth: int = 0) -> list[Field]:
    """Return the fields; bytes that could be a message are one.

    Raises:
        ValueError: it is no message.
    """
    fields, at = [], 0
    while at < len(content):
        tag, at = _varint(content, at)
        number, wire = tag >> 3, tag & 7
        if number == 0 or wire not in (VARINT, FIXED64, DELIMITED, FIXED32):
            raise ValueError("no field")
        if wire == VARINT:
            value: int | bytes | list[Field]
            value, at = _varint(content, at)
        else:
            length, at = _varint(content, at) if wire == DELIMITED else (WIDTH[wire], at)
            if at + length > len(content):
                raise ValueError("too short")
            value, at = content[at : at + length], at + length
            if wire == DELIMITED and depth < MOST_DEPTH:
                value = _message(value, depth)
        fields.append(Field(number, wire, value))
    return fields


def written(fields: list[Field], chance: Random | None = None) -> bytes:
    """Return the bytes of fields; with `chance` some numbers take more bytes than they need."""
    parts = []
    for field in fields:
        parts.append(_number(field.number << 3 | field.wire, chance))
        if isinstance(field.value, int):
            parts.append(_number(field.value, chance))
            continue
        value = written(field.value, chance) if isinstance(field.value, list) else field.value
        parts += [_number(len(value), chance), value] if field.wire == DELIMITED else [value]
    return b"".join(parts)


def _message(value: bytes, depth: int) -> bytes | list[Field]:
    if len(value) < 2 or (value.isascii() and value.decode().isprintable()):
        return value
    try:
        return parse(value, depth + 1)
    except ValueError:
        return value


def _varint(content: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(content):
            break
        byte, at = content[at], at + 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError("no number")


def _number(value: int, chance: Random | None) -> bytes:
    value, found = value & ((1 << 64) - 1), bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    found.append(value)
    if chance is not None and chance.random() < 0.1:
        found[-1] |= 128
        found.append(0)
    return bytes(found)


def _change_one(fields: list[Field], chance: Random) -> None:
    """Change one field of a message, or of one in it."""
    inner = [field.value for field in fields if isinstance(field.value, list) and field.value]
    if inner and chance.random() < 0.8:
        return _change_one(chance.choice(inner), chance)
    if not fields:
        return None
    at = chance.randrange(len(fields))
    kind = chance.randrange(5)
    if kind == 0:
        del fields[at]
    elif kind == 1:
        fields.insert(chance.randint(0, len(fields)), chance.choice(fields))
    elif kind == 2:
        fields[at] = replace(fields[at], number=chance.choice((1, 5, 6, 7, 10, 13, 14, 20, 25, 536870911)))
    elif kind == 3:
        fields[at], fields[0] = fields[0], fields[at]
    else:
        fields[at] = replace(fields[at], value=_odd_value(fields[at], chance))
    return None


def _odd_value(field: Field, chance: Random) -> int | bytes | list[Field]:
    if field.wire == VARINT:
        return chance.choice(ODD_NUMBERS)
    if field.wire in WIDTH:
        return chance.choice((bytes(8), b"\xff" * 8, chance.randbytes(8)))[: WIDTH[field.wire]]
    return chance.choice((*ODD_BYTES, chance.randbytes(chance.randint(0, 16))))
