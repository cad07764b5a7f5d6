"""The markers of a JPEG stream (ITU-T T.81, annex B), which JPEG-LS has too (T.87)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from struct import unpack_from

SOI, EOI, SOS, DRI = 0xD8, 0xD9, 0xDA, 0xDD
RESTARTS = range(0xD0, 0xD8)
JPEG_LS = 0xF7
FRAMES = frozenset({*range(0xC0, 0xD0), JPEG_LS}) - {0xC4, 0xC8, 0xCC}
"""SOF0 to SOF15: start of a frame, without DHT, JPG and DAC, which lie between them; and that of JPEG-LS."""
LOSSLESS = frozenset({0xC3, 0xC7, 0xCB, 0xCF})
ARITHMETIC = frozenset(range(0xC9, 0xD0)) - {0xCC}

_MARKER = re.compile(rb"\xff+([^\x00\xff])")
"""In entropy-coded data a zero follows each 0xFF. libjpeg skips what is between markers."""
_WITHOUT_LENGTH = frozenset({0x01, SOI, *RESTARTS})


@dataclass(frozen=True, slots=True)
class Segment:
    """A marker and its parameters."""

    marker: int
    start: int
    """Of the parameters, behind their length."""
    end: int
    """Behind them: entropy-coded data, or the next marker."""


def segments_of(content: bytes) -> Iterator[Segment]:
    """Yield the segments up to the end of the first picture; restart markers, which have no parameters, are passed over.

    Raises:
        struct.error: the stream ends before the length of a segment.
    """
    position = 0
    while (found := _MARKER.search(content, position)) is not None and found[1][0] != EOI:
        position = found.end()
        if found[1][0] not in _WITHOUT_LENGTH:
            position += unpack_from(">H", content, position)[0]
            yield Segment(found[1][0], found.end() + 2, position)


@dataclass(frozen=True, slots=True)
class FrameHeader:
    """The first numbers of a frame header (T.81, B.2.2)."""

    bits: int
    """Of each sample."""
    height: int
    width: int
    components: int

    @classmethod
    def read(cls, content: bytes, start: int) -> FrameHeader:
        """Read it from the parameters of a segment on.

        Raises:
            struct.error: the stream ends before.
        """
        return cls(*unpack_from(">BHHB", content, start))


def scan_ends(content: bytes, start: int) -> list[int]:
    """Return where the entropy-coded data of a scan end: at each restart marker, and at the next header."""
    ends: list[int] = []
    for found in _MARKER.finditer(content, start):
        ends.append(found.start())
        if found[1][0] not in RESTARTS:
            return ends
    return [*ends, len(content)]
