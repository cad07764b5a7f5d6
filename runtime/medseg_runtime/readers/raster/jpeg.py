"""What a JPEG file is coded with (ITU-T T.81, annex B), and whether its scans are whole.

libjpeg fills a scan that ends too early with grey, and only warns; Pillow does not pass the warning on. Whether that happened is
tried: if bytes are added behind a whole scan, the decoder does not need them and the picture is the same. If the scan is cut
short, it decodes them, and the picture is another.
"""

from __future__ import annotations

import math
import random
import struct
from dataclasses import dataclass, field

from medseg_runtime.errors import ImageError
from medseg_runtime.readers.jpeg_markers import (
    ARITHMETIC,
    DRI,
    FRAMES,
    JPEG_LS,
    LOSSLESS,
    SOS,
    FrameHeader,
    scan_ends,
    segments_of,
)
from medseg_runtime.readers.source import DAMAGED

FILLER = bytes(random.Random(0).choices(range(255), k=64))  # noqa: S311 - any bytes without 0xFF

_REMEDY = "Save it as PNG, or as a JPEG of 8 bits."


@dataclass(frozen=True, slots=True)
class JpegCoding:
    """How the first picture of a file is coded."""

    frame: int
    """Its SOF marker."""
    scan_ends: tuple[int, ...]
    """Where entropy-coded data end: at a restart marker or at the next header."""
    unfinished: bool
    """Whether scans that refine the picture are missing from a progressive file."""

    @property
    def arithmetic(self) -> bool:
        """Whether it is arithmetic coded: there, zeros at the end of a scan may be left out (T.81, D.1.8)."""
        return self.frame in ARITHMETIC

    def padded(self, content: bytes) -> bytes:
        """Return the file with bytes behind each scan that a decoder of whole scans skips."""
        starts = (0, *self.scan_ends)
        parts = [content[start:end] for start, end in zip(starts, (*self.scan_ends, len(content)), strict=True)]
        return FILLER.join(parts)


def read_coding(content: bytes) -> JpegCoding | None:
    """Walk the markers of a JPEG file; None if they make no sense, which is left to the decoder to say.

    Raises:
        ImageError: a coding that is not decoded here, or data that are missing.
    """
    try:
        return _walk(content)
    except ImageError:
        raise
    except (struct.error, IndexError, ValueError, ZeroDivisionError):
        return None


def _walk(content: bytes) -> JpegCoding | None:
    frame: _Frame | None = None
    ends, interval = list[int](), 0
    for segment in segments_of(content):
        if segment.marker in FRAMES:
            frame = _Frame.read(segment.marker, content[segment.start : segment.end])
        elif segment.marker == DRI:
            interval = int.from_bytes(content[segment.start : segment.start + 2])
        elif segment.marker == SOS and frame is not None:
            found = scan_ends(content, segment.end)
            frame.check_scan(content[segment.start : segment.end], interval, len(found), found[-1] - segment.end)
            ends += found
    if frame is None or not ends:
        return None
    if any(0 not in component.coded for component in frame.components.values()):
        raise ImageError("the JPEG lacks a whole channel", DAMAGED)
    return JpegCoding(frame.marker, tuple(ends), any(len(one.whole) < 64 for one in frame.components.values()))


@dataclass(slots=True)
class _Component:
    across: int
    """Blocks of 8x8 in a unit (MCU) of all components."""
    down: int
    coded: set[int] = field(default_factory=set)
    """Which of the 64 coefficients a scan holds."""
    whole: set[int] = field(default_factory=set)
    """Which of them to their last bit."""


@dataclass(slots=True)
class _Frame:
    marker: int
    height: int
    width: int
    components: dict[int, _Component]

    @classmethod
    def read(cls, marker: int, header: bytes) -> _Frame:
        """Read a frame header from its precision on (T.81, B.2.2).

        Raises:
            ImageError: a coding that is not decoded here.
        """
        stated = FrameHeader.read(header, 0)
        _check_decodable(marker, stated.bits)
        numbers = [header[6 + 3 * k : 8 + 3 * k] for k in range(stated.components)]
        components = {number: _Component(sampling >> 4, sampling & 0xF) for number, sampling in numbers}
        return cls(marker, stated.height, stated.width, components)

    def check_scan(self, header: bytes, interval: int, intervals: int, length: int) -> None:
        """Check that a scan may hold all it should, and note what it holds.

        header: its parameters (T.81, B.2.3). interval: units between restart markers; 0 for none. intervals: how many there are.
        length: bytes of entropy-coded data.

        Raises:
            ImageError: data are missing.
        """
        components = self.note_scan(header)
        expected = math.ceil(self.units(components) / interval) if interval else 1
        if intervals < expected or 8 * length < self.least_bits(components, header):
            raise ImageError("the JPEG lacks a part of its picture", DAMAGED)

    def note_scan(self, header: bytes) -> list[_Component]:
        """Return the components of a scan, and note which coefficients it holds (T.81, B.2.3)."""
        count = header[0]
        first, last, bits = header[1 + 2 * count : 4 + 2 * count]
        found = [self.components[number] for number in header[1 : 1 + 2 * count : 2] if number in self.components]
        for component in found:
            component.coded.update(range(first, last + 1))
            if bits & 0xF == 0:  # Al: the bit that the scan ends at
                component.whole.update(range(first, last + 1))
        return found

    def least_bits(self, scanned: list[_Component], header: bytes) -> int:
        """Return how many bits a scan has at least: a Huffman code for the start of each block, and one for its end.

        A file that claims more pixels is refused before they are decoded.
        """
        first, last, bits = header[1 + 2 * header[0] : 4 + 2 * header[0]]
        if self.marker in ARITHMETIC or first or bits >> 4:
            return 0
        blocks = sum(component.across * component.down for component in scanned) if len(scanned) > 1 else 1
        return self.units(scanned) * blocks * (2 if last else 1)

    def units(self, scanned: list[_Component]) -> int:
        """Return the number of units of a scan, which restart intervals are counted in (T.81, A.2)."""
        across = max(component.across for component in self.components.values())
        down = max(component.down for component in self.components.values())
        if len(scanned) > 1:
            return math.ceil(self.width / 8 / across) * math.ceil(self.height / 8 / down)
        (only,) = scanned
        columns, rows = math.ceil(self.width * only.across / across), math.ceil(self.height * only.down / down)
        return math.ceil(columns / 8) * math.ceil(rows / 8)


def _check_decodable(marker: int, bits: int) -> None:
    if marker == JPEG_LS:
        raise ImageError("the file is coded as JPEG-LS, which is not decoded here", _REMEDY)
    if marker in LOSSLESS:
        raise ImageError("the file is coded as JPEG Lossless, which is not decoded here", _REMEDY)
    if bits != 8:
        raise ImageError(f"the JPEG has {bits} bits a channel, which are not decoded here", _REMEDY)
