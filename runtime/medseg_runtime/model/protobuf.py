"""Read protobuf messages strictly: one way to write a message, and nothing else.

Two parsers of protobuf may read one file differently: a later field replaces or is merged with an earlier one, fields that a parser
does not know are skipped, and a number may be written with more bytes than it needs. Software that serializes messages does none of
this. So a file that does is refused, and every parser reads what this one has read.

Encoding: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from struct import unpack_from
from typing import Any, Literal

MAX_FIELDS = 500_000
"""Most fields of a file. The largest graph of the shipped bundle has 11,000."""
MAX_DEPTH = 24
MAX_TEXT = 512
"""Longest name, in bytes."""
SMALL = 128
"""Bytes of messages that are read once for all places with the same bytes: of the shipped bundle's 10,000 messages, 7,000 are copies."""

Scalar = Literal["int", "float", "double", "text", "bytes", "packed int", "packed float", "packed double"]
Message = dict[str, Any]
"""Field name -> value, a list if the field is repeated. `bytes` and packed numbers are given as their length: in bytes, and in numbers."""

VARINT, FIXED64, DELIMITED, FIXED32 = 0, 1, 2, 5
WIRE_TYPES = {"int": VARINT, "float": FIXED32, "double": FIXED64}
"""All other kinds of field are preceded by their length."""
REFUSED = "refused"
"""The kind of a field that must not be there."""


class ProtobufError(ValueError):
    """The bytes are not the one way to write a message of the schema."""


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a message."""

    name: str
    kind: str
    """A `Scalar`, the name of a message, or `REFUSED`."""
    repeated: bool = False


Schema = Mapping[str, Mapping[int, Field]]
"""Message -> number -> field."""
Check = Callable[[str, Message], None]
"""Is called with every message and its content, the innermost first. Raises ProtobufError."""


def read_message(content: bytes, schema: Schema, kind: str, check: Check) -> Message:
    """Return the content of a message that fills `content`.

    Raises:
        ProtobufError: see the module.
    """
    return _Reader(content, schema, check).message(kind, 0, len(content), 0)


class _Reader:
    def __init__(self, content: bytes, schema: Schema, check: Check) -> None:
        self._content, self._schema, self._check = content, schema, check
        self._fields = 0
        self._small: dict[tuple[str, int, bytes], tuple[Message, int]] = {}
        """Kind, depth and bytes -> the message, and how many fields it has."""

    def message(self, kind: str, start: int, end: int, depth: int) -> Message:
        if depth > MAX_DEPTH:
            raise ProtobufError("messages are nested too deeply")
        fields, found = self._schema[kind], Message()
        while start < end:
            tag, start = self._varint(start, end)
            field = fields.get(tag >> 3)
            if field is None:
                raise ProtobufError(f"it has field {tag >> 3} in the message {kind!r}")
            if field.kind == REFUSED:
                raise ProtobufError(f"it has {field.name}")
            if tag & 7 != WIRE_TYPES.get(field.kind, DELIMITED):
                raise ProtobufError(f"{field.name} in the message {kind!r} is of another kind")
            value, start = self._value(field.kind, start, end, depth)
            self._count(1)
            if field.repeated:
                found.setdefault(field.name, []).append(value)
            elif field.name in found:
                raise ProtobufError(f"the message {kind!r} has {field.name} twice")
            else:
                found[field.name] = value
        self._check(kind, found)
        return found

    def _value(self, kind: str, start: int, end: int, depth: int) -> tuple[Any, int]:
        if kind == "int":
            value, start = self._varint(start, end)
            return value - (value >> 63 << 64), start
        if kind in ("float", "double"):
            stop = self._stop(start, 4 if kind == "float" else 8, end)
            return unpack_from("<f" if kind == "float" else "<d", self._content, start)[0], stop
        length, start = self._varint(start, end)
        stop = self._stop(start, length, end)
        if kind == "text":
            return self._text(start, stop), stop
        if kind == "bytes":
            return length, stop
        if kind.startswith("packed"):
            return self._packed(kind, start, stop), stop
        return self._inner(kind, start, stop, depth + 1), stop

    def _inner(self, kind: str, start: int, stop: int, depth: int) -> Message:
        """Return a message in another one. What is read does not depend on the place, so equal bytes are read once."""
        if stop - start > SMALL:
            return self.message(kind, start, stop, depth)
        key = kind, depth, self._content[start:stop]
        if (known := self._small.get(key)) is None:
            before = self._fields
            message = self.message(kind, start, stop, depth)
            self._small[key] = message, self._fields - before
            return message
        self._count(known[1])
        return known[0]

    def _varint(self, start: int, end: int) -> tuple[int, int]:
        content, value, shift = self._content, 0, 0
        if start < end and content[start] < 128:  # most numbers are one byte
            return content[start], start + 1
        while start < end:
            byte = content[start]
            start += 1
            value |= (byte & 127) << shift
            if byte < 128:
                if (byte == 0 and shift) or value >> 64:
                    raise ProtobufError("a number is written with more bytes than it needs")
                return value, start
            shift += 7
            if shift > 63:
                break
        raise ProtobufError("a number does not end")

    @staticmethod
    def _stop(start: int, length: int, end: int) -> int:
        if length > end - start:
            raise ProtobufError("a field is longer than its message")
        return start + length

    def _text(self, start: int, stop: int) -> str:
        if stop - start > MAX_TEXT:
            raise ProtobufError(f"a name has more than {MAX_TEXT} bytes")
        try:
            text = self._content[start:stop].decode("utf-8")
        except UnicodeDecodeError as error:
            raise ProtobufError("a name is not UTF-8") from error
        if not text.isprintable():
            raise ProtobufError("a name has characters that cannot be printed")
        return text

    def _packed(self, kind: str, start: int, stop: int) -> int:
        """Return how many numbers there are."""
        if kind == "packed int":
            count = 0
            while start < stop:
                _, start = self._varint(start, stop)
                count += 1
            self._count(count)
            return count
        size = 4 if kind == "packed float" else 8
        if (stop - start) % size:
            raise ProtobufError("packed numbers end in the middle of one")
        return (stop - start) // size

    def _count(self, more: int) -> None:
        self._fields += more
        if self._fields > MAX_FIELDS:
            raise ProtobufError(f"the file has more than {MAX_FIELDS:,} fields")
