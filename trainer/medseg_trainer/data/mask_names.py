"""Which mask belongs to which image, by their names.

A mask is named as its image, or as its image with a known ending: a.png and a_mask.png, a-label.tif, a.mask.png, a.jpg.png. The
image may have an ending of its own: a_image.png and a_mask.png; case_0000.png and case.png, as nnU-Net names them.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable

from medseg_trainer.data.names import stem_of

ENDING = re.compile(
    r"[ ._-]*(masks?|segmentations?|segm?|labels?|gt|ground[ ._-]?truth|annotations?|annotated|manual|lesion|roi|binary)$",
    re.IGNORECASE,
)
NUMBERED_ENDING = re.compile(ENDING.pattern[:-1] + r"[ ._-]*\d*$", re.IGNORECASE)
IMAGE_ENDING = re.compile(r"([ ._-](image|img)|_0000)$", re.IGNORECASE)
SEPARATORS = " ._-"


def masks_among(names: Collection[str]) -> list[str]:
    """Return those of a folder's names that are masks of others: an ending, perhaps with a number, behind another name."""
    return [
        name
        for name in names
        if (ending := NUMBERED_ENDING.search(name)) and _owner(name[: ending.start()].rstrip(SEPARATORS), names)
    ]


def masks_of(images: Collection[str], masks: Iterable[str]) -> dict[str, list[str]]:
    """Return the masks that are named after each image: none, one, or several between which nobody can choose.

    images, masks: paths without suffix.
    """
    by_short_name = defaultdict(list)
    for image in images:
        by_short_name[IMAGE_ENDING.sub("", image)].append(image)
    found: dict[str, list[str]] = {image: [] for image in images}
    for mask in masks:
        owner = _owner(mask, images) or _owner(mask, by_short_name)
        for image in [owner] if owner in found else by_short_name.get(owner, []):
            found[image].append(mask)
    return {image: _fitting(image, candidates) for image, candidates in found.items()}


def _owner(mask: str, names: Collection[str]) -> str:
    """Return the longest name that a mask's name begins with, up to a separator; empty if there is none."""
    for end in range(len(mask), 0, -1):
        if (end == len(mask) or mask[end] in SEPARATORS) and mask[:end] in names:
            return mask[:end]
    return ""


def _fitting(image: str, candidates: list[str]) -> list[str]:
    """Return the masks of an image. One of its very name excludes no other: which of them is meant is not known."""
    plain = IMAGE_ENDING.sub("", image)
    known = [mask for mask in candidates if mask in (image, plain) or _is_ending(mask, image, plain)]
    return candidates if len(candidates) > 1 else known


def _is_ending(mask: str, image: str, plain: str) -> bool:
    name = image if mask.startswith(image) else plain
    return stem_of(mask) == name or ENDING.fullmatch(mask[len(name) :]) is not None
