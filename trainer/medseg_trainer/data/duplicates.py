"""Images of two splits that are nearly the same picture, by a difference hash.

The hash says of 16 x 16 neighbors in a small grey copy of the image which is brighter (dHash: N. Krawetz, "Kind of Like That",
2013, with 256 bits instead of 64). Copies of a picture in other sizes, formats and qualities differ in few bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from medseg_runtime.model.preprocess import LUMA, Pixels

SIDE = 16
MOST_BITS = 26
"""Bits out of 256 in which the hashes of one picture may differ. Of copies in half the size, in another shape or as a JPEG of quality
30, 99 % differ in fewer; different images of ISIC-2018 and LIDC-IDRI differ in 46 and more."""
Hash = npt.NDArray[np.uint8]
"""(32,) 256 bits."""


@dataclass(frozen=True, slots=True)
class Hashed:
    """An image of a split and its hash."""

    name: str
    group: str
    split: str
    bits: Hash


def difference_hash(pixels: Pixels) -> Hash:
    """Return 256 bits of an image (H, W) or (H, W, 3): whether each pixel of a small copy is darker than its right neighbor."""
    grey = pixels.astype(np.float32)
    if grey.ndim == 3:
        grey = grey @ np.array(LUMA, np.float32)
    small = np.asarray(Image.fromarray(grey).resize((SIDE + 1, SIDE), Image.Resampling.BOX))
    return np.packbits(small[:, 1:] > small[:, :-1])


def duplicates(images: Sequence[Hashed]) -> list[tuple[Hashed, Hashed, int]]:
    """Return pairs of images of different splits that are nearly the same, and in how many bits they differ."""
    if not images:
        return []
    bits, splits = np.stack([one.bits for one in images]), np.array([one.split for one in images])
    pairs: list[tuple[Hashed, Hashed, int]] = []
    for index, one in enumerate(images):
        differing = np.bitwise_count(bits[:index] ^ one.bits).sum(axis=1, dtype=np.int64)
        others = np.flatnonzero((differing <= MOST_BITS) & (splits[:index] != one.split)).tolist()
        pairs += [(images[other], one, int(differing[other])) for other in others]
    return sorted(pairs, key=lambda pair: pair[2])
