"""Change the parts of PNG, JPEG and TIFF files, with lengths and checksums mended."""

from __future__ import annotations

import struct
import zlib
from random import Random

from benchmarks.robustness.fuzz.mutators import octets

PNG = b"\x89PNG\r\n\x1a\n"
CHUNKS = (
    b"IHDR",
    b"PLTE",
    b"IDAT",
    b"IEND",
    b"tRNS",
    b"gAMA",
    b"iCCP",
    b"eXIf",
    b"acTL",
    b"fcTL",
    b"zTXt",
    b"iTXt",
    b"pHYs",
    b"sBIT",
)
BOMB = zlib.compress(bytes(1 << 22), 9)


def change_png(content: bytes, chance: Random) -> bytes:
    """Return a PNG with one to three chunks changed.

    Raises:
        ValueError: it is no PNG.
    """
    if not content.startswith(PNG):
        raise ValueError("no PNG")
    chunks, at = list[tuple[bytes, bytes]](), len(PNG)
    while at + 12 <= len(content):
        length = int.from_bytes(content[at : at + 4])
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + length]))
        at += 12 + length
    for _ in range(chance.randint(1, 3)):
        _change_part(chunks, chance, CHUNKS, BOMB)
    return PNG + b"".join(
        len(data).to_bytes(4) + kind + data + zlib.crc32(kind + data).to_bytes(4) for kind, data in chunks
    )


def change_jpeg(content: bytes, chance: Random) -> bytes:
    """Return a JPEG with one to three of its segments changed, up to the first scan.

    Raises:
        ValueError: it is no JPEG.
    """
    if not content.startswith(b"\xff\xd8"):
        raise ValueError("no JPEG")
    segments, at = list[tuple[bytes, bytes]](), 2
    while at + 4 <= len(content) and content[at] == 0xFF and content[at + 1] != 0xDA:
        length = int.from_bytes(content[at + 2 : at + 4])
        segments.append((content[at : at + 2], content[at + 4 : at + 2 + length]))
        at += 2 + length
    for _ in range(chance.randint(1, 3)):
        _change_part(
            segments, chance, tuple(bytes((0xFF, marker)) for marker in (0xC0, 0xC2, 0xC4, 0xDB, 0xDD, 0xE1, 0xEE)), b""
        )
    head = b"".join(marker + min(len(data) + 2, 0xFFFF).to_bytes(2) + data for marker, data in segments)
    scan = octets.change(content[at:], chance) if chance.random() < 0.3 else content[at:]
    return b"\xff\xd8" + head + scan


def change_tiff(content: bytes, chance: Random) -> bytes:
    """Return a TIFF with an entry of its first directory changed.

    Raises:
        ValueError: it is no TIFF.
    """
    order = {b"II": "<", b"MM": ">"}.get(content[:2])
    if order is None or len(content) < 16:
        raise ValueError("no TIFF")
    start = struct.unpack_from(f"{order}L", content, 4)[0]
    if start + 14 > len(content):
        raise ValueError("no directory")
    count = struct.unpack_from(f"{order}H", content, start)[0]
    at = start + 2 + 12 * chance.randrange(max(count, 1))
    changed = bytearray(content)
    entry = bytearray(changed[at : at + 12].ljust(12, b"\0"))
    offset, width = chance.choice(((0, 2), (2, 2), (4, 4), (8, 4), (8, 2)))
    entry[offset : offset + width] = (chance.choice(octets.ODD_NUMBERS) % 256**width).to_bytes(
        width, "little" if order == "<" else "big"
    )
    changed[at : at + 12] = entry
    return bytes(changed)


def _change_part(parts: list[tuple[bytes, bytes]], chance: Random, kinds: tuple[bytes, ...], bomb: bytes) -> None:
    if not parts:
        return
    at = chance.randrange(len(parts))
    kind, data = parts[at]
    what = chance.randrange(6)
    if what == 0:
        del parts[at]
    elif what == 1:
        parts.insert(chance.randint(0, len(parts)), parts[at])
    elif what == 2:
        parts[at] = chance.choice(kinds), data
    elif what == 3 and chance.random() < 0.02:
        parts[at] = kind, bomb
    elif what == 4:
        parts.insert(at, (chance.choice(kinds), octets.change(data, chance)))
    else:
        parts[at] = kind, octets.change(data, chance)
