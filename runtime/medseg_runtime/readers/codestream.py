"""What a compressed picture says of itself: JPEG (ITU-T T.81), JPEG-LS (T.87), JPEG 2000 (T.800, T.814) and RLE (PS3.5, annex G).

Decoders take sizes from here, and not from the file around it.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil

from medseg_runtime.readers.jpeg_markers import FRAMES, JPEG_LS, FrameHeader, Segment, segments_of

START_OF_IMAGE, END_OF_IMAGE = b"\xff\xd8", b"\xff\xd9"  # JPEG 2000 ends with the same two bytes
START_OF_SCAN = b"\xff\xda"
JPEG_CODINGS = {0xC0: "JPEG", 0xC1: "JPEG", 0xC2: "JPEG", 0xC3: "JPEG Lossless", JPEG_LS: "JPEG-LS"}
"""By the marker of the frame."""
APP0, APP14 = 0xE0, 0xEE
"""JFIF's marker (T.871, 10.1), and Adobe's, which says whether three components are YBR (T.872, 6.5.3)."""

JPEG_2000, JP2 = b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  "
CODING_STYLE, COMPONENT_STYLE, START_OF_TILE, START_OF_DATA = 0xFF52, 0xFF53, b"\xff\x90", 0xFF93

MAX_WORK = 3_000_000_000
"""Largest `Codestream.work`. About 1 ns each: 3 s."""
PACKET_WORK = 100
"""A packet of JPEG 2000 takes as long as so many pixels of a scan, and 9 bytes, even if it is empty."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Codestream:
    """The size and coding of one compressed frame."""

    coding: str
    height: int
    width: int
    components: int
    bits: int
    """Of each sample."""
    complete: bool
    """Whether it ends with the mark of its end."""
    work: int
    """Pixels times scans of a JPEG, or packets of JPEG 2000: what it takes to decode, however few bytes there are."""
    transformed: bool = False
    """Whether it says itself how its colors are coded, so that decoders return RGB: an Adobe marker of JPEG, a transform of JPEG 2000."""
    jfif: bool = False
    """Whether a JPEG has a JFIF marker."""
    subsampled: bool = False
    """Whether a JPEG holds fewer samples of a color than pixels: YBR, then."""

    def __str__(self) -> str:
        return f"{self.coding}, {self.bits} bits, {self.components} component{'s' if self.components > 1 else ''}"


def parse_codestream(content: bytes) -> Codestream | None:
    """Return what the header of a compressed frame says; None if it is none of these codings, or damaged."""
    try:
        if content.startswith(START_OF_IMAGE):
            return _jpeg(content)
        start = _jpeg_2000_start(content)
        return None if start is None else _jpeg_2000(content, start)
    except (struct.error, IndexError):
        return None


def _jpeg(content: bytes) -> Codestream | None:
    segments = list(_to_frame(segments_of(content)))
    if not segments or segments[-1].marker not in FRAMES:
        return None
    start = segments[-1].start
    frame = FrameHeader.read(content, start)
    return Codestream(
        coding=JPEG_CODINGS.get(segments[-1].marker, "JPEG with arithmetic or hierarchical coding"),
        height=frame.height,
        width=frame.width,
        components=frame.components,
        bits=frame.bits,
        complete=_ends(content),
        work=frame.height * frame.width * content.count(START_OF_SCAN, start),
        transformed=any(one.marker == APP14 and content.startswith(b"Adobe", one.start) for one in segments),
        jfif=any(one.marker == APP0 and content.startswith(b"JFIF", one.start) for one in segments),
        subsampled=len({content[start + 7 + 3 * index] for index in range(frame.components)}) > 1,
    )


def _to_frame(segments: Iterator[Segment]) -> Iterator[Segment]:
    """Yield segments up to the first frame header, with it."""
    for segment in segments:
        yield segment
        if segment.marker in FRAMES:
            return


def _jpeg_2000_start(content: bytes) -> int | None:
    """Return where the codestream begins: at once, or in a box of a JP2 file (T.800, annex I), which some writers keep."""
    position = 0
    while content.startswith(JP2) and content[position + 4 : position + 8] != b"jp2c":
        length, _, long_length = struct.unpack_from(">I4sQ", content, position)
        position += max(long_length if length == 1 else length, 8)
    if content.startswith(JP2):
        position += 16 if content[position : position + 4] == b"\0\0\0\1" else 8
    return position if content.startswith(JPEG_2000, position) else None


def _jpeg_2000(content: bytes, start: int) -> Codestream:
    x1, y1, x0, y0, across, down = struct.unpack_from(">6I", content, start + 8)  # SIZ: ends of the grid, offset, tiles
    components, depth = struct.unpack_from(">HB", content, start + 40)
    width, height = x1 - x0, y1 - y0
    tiles = ceil(width / max(across, 1)) * ceil(height / max(down, 1))
    layers, precincts, transformed = 1, 1, False
    for style in _coding_styles(content, start, components):
        layers, transformed = max(layers, style.layers), transformed or style.transformed
        precincts = max(precincts, style.precincts(width, height) + tiles * (style.levels + 1))
    return Codestream(
        coding="JPEG 2000", height=height, width=width, components=components, bits=(depth & 0x7F) + 1,
        complete=_ends(content), work=PACKET_WORK * layers * precincts * components, transformed=transformed,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _CodingStyle:
    """The marker COD or COC of JPEG 2000 (T.800, A.6.1 and A.6.2)."""

    layers: int
    levels: int
    sizes: Sequence[int]
    """Of precincts, for each resolution: exponents of width (low four bits) and height (high ones). Empty: the largest."""
    transformed: bool = False
    """Whether a color transform was applied (T.800, annex G)."""

    def precincts(self, width: int, height: int) -> int:
        """Return the number of precincts of one component, all resolutions together (T.800, B.6)."""
        count = 0
        for resolution, size in enumerate(self.sizes):
            scale = 1 << max(self.levels - resolution, 0)
            count += ceil(width / (scale << (size & 0xF))) * ceil(height / (scale << (size >> 4)))
        return count


def _coding_styles(content: bytes, start: int, components: int) -> Iterator[_CodingStyle]:
    """Yield the coding styles of the main header and of each tile's. A tile begins with bytes that its data never hold."""
    headers = [start + 2, *(found.end() + 10 for found in re.finditer(START_OF_TILE, content[start:]))]
    for header in headers:
        position = header
        while position + 4 <= len(content):
            marker, length = struct.unpack_from(">HH", content, position)
            segment = content[position + 4 : position + 2 + length]
            position += 2 + max(length, 2)
            if marker == CODING_STYLE:
                yield _CodingStyle(struct.unpack_from(">H", segment, 2)[0], segment[5], segment[10:], segment[4] == 1)
            elif marker == COMPONENT_STYLE:
                style = segment[1 if components < 257 else 2 :]
                yield _CodingStyle(1, style[1], style[6:])
            elif marker == START_OF_DATA or marker >> 8 != 0xFF or content[position : position + 2] == START_OF_TILE:
                break


def _ends(content: bytes) -> bool:
    return content[-4096:].rstrip(b"\0\xff").endswith(END_OF_IMAGE)  # padded to even length


def rle_fits(content: bytes, limit: int) -> bool:
    """Tell whether no segment of an RLE frame decodes to more bytes than that (PS3.5, annex G.3)."""
    if 128 * len(content) <= limit:
        return True
    count, *offsets = struct.unpack_from("<16I", content)
    starts = offsets[: min(count, 15)]
    return all(
        _rle_bytes(content[start:end], limit) <= limit
        for start, end in zip(starts, [*starts[1:], len(content)], strict=True)
    )


def _rle_bytes(segment: bytes, limit: int) -> int:
    """Return the length of a decoded segment; above the limit, any number above it."""
    decoded = position = 0
    while position < len(segment) and decoded <= limit:
        control = segment[position]
        if control < 128:
            decoded, position = decoded + control + 1, position + control + 2
        elif control > 128:
            decoded, position = decoded + 257 - control, position + 2
        else:
            position += 1
    return decoded
