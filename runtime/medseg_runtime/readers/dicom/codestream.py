"""What a compressed picture says of itself: JPEG (ITU-T T.81), JPEG-LS (T.87) and JPEG 2000 (T.800, T.814)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

START_OF_IMAGE, END_OF_IMAGE = b"\xff\xd8", b"\xff\xd9"  # JPEG 2000 ends with the same two bytes
START_OF_FRAME = {0xC0: "JPEG", 0xC1: "JPEG", 0xC2: "JPEG", 0xC3: "JPEG Lossless", 0xF7: "JPEG-LS"}
OTHER_FRAMES = frozenset(range(0xC5, 0xD0)) - {0xC8, 0xCC}
"""Hierarchical and arithmetic coding."""
JPEG_2000 = b"\xff\x4f\xff\x51"


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

    def __str__(self) -> str:
        return f"{self.coding}, {self.bits} bits, {self.components} component{'s' if self.components > 1 else ''}"


def parse_codestream(content: bytes) -> Codestream | None:
    """Return what the header of a compressed frame says; None if it is none of these codings, or damaged."""
    try:
        if content.startswith(START_OF_IMAGE):
            return _jpeg(content)
        start = content.find(JPEG_2000, 0, 4096)  # some writers put the boxes of a JP2 file in front
        return _jpeg_2000(content, start) if start >= 0 else None
    except (struct.error, IndexError):
        return None


def _jpeg(content: bytes) -> Codestream | None:
    position = 2
    while content[position] == 0xFF:
        marker = content[position + 1]
        if marker == 0xFF:  # a fill byte
            position += 1
            continue
        if marker in START_OF_FRAME or marker in OTHER_FRAMES:
            bits, height, width, components = struct.unpack_from(">BHHB", content, position + 4)
            coding = START_OF_FRAME.get(marker, "JPEG with arithmetic or hierarchical coding")
            return Codestream(
                coding=coding, height=height, width=width, components=components, bits=bits, complete=_ends(content)
            )
        position += 2 + struct.unpack_from(">H", content, position + 2)[0]
    return None


def _jpeg_2000(content: bytes, start: int) -> Codestream:
    x1, y1, x0, y0 = struct.unpack_from(">4I", content, start + 8)  # SIZ: the grid's ends and the image's offset in it
    components, depth = struct.unpack_from(">HB", content, start + 40)
    return Codestream(
        coding="JPEG 2000", height=y1 - y0, width=x1 - x0, components=components, bits=(depth & 0x7F) + 1,
        complete=_ends(content),
    )  # fmt: skip


def _ends(content: bytes) -> bool:
    return content[-4096:].rstrip(b"\0\xff").endswith(END_OF_IMAGE)  # padded to even length
