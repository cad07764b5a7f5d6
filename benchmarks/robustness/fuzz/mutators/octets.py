"""Change bytes where the format does not matter: numbers that programs trip over, blocks twice, blocks left out."""

from __future__ import annotations

from random import Random

ODD_NUMBERS = (0, 1, 2, 7, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
HEADER = 1500
"""Most formats keep what decides in their first bytes."""


def change(content: bytes, chance: Random) -> bytes:
    """Return bytes with one change."""
    changed = bytearray(content)
    at = chance.randrange(min(len(changed), HEADER) if chance.random() < 0.5 else len(changed)) if changed else 0
    size = chance.randint(1, 64)
    kind = chance.randrange(5)
    if kind == 0:
        number, width = chance.choice(ODD_NUMBERS), chance.choice((1, 2, 4, 8))
        changed[at : at + width] = (number % 256**width).to_bytes(width, chance.choice(("little", "big")))
    elif kind == 1:
        del changed[at : at + size]
    elif kind == 2:
        changed[at:at] = changed[at : at + size]
    elif kind == 3:
        changed[at : at + size] = chance.randbytes(size)
    else:
        changed[at : at + 1] = bytes([chance.randrange(256)])
    return bytes(changed)
