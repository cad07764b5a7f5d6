"""Training data: one reader per layout, all giving the same cases."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from medseg_runtime.errors import DataError
from medseg_trainer.data import folder, lidc
from medseg_trainer.data.case import Case, Split

LAYOUTS: dict[str, tuple[Callable[[Path], bool], Callable[[Path, Split, int], Iterator[Case]]]] = {
    "LIDC-IDRI-slices": (lidc.recognises, lidc.read),
    "folder": (folder.recognises, folder.read),
}
"""Name -> (does this folder have that layout, its reader)."""

__all__ = ["LAYOUTS", "Case", "Split", "read_cases"]


def read_cases(data: Path, split: Split, num_classes: int) -> Iterator[Case]:
    """Read the cases of one split, in a fixed order, one at a time.

    Raises:
        DataError: no layout that we know, or files that are missing or do not pair.
    """
    if not data.is_dir():
        raise DataError(f"there is no folder {data.name!r}", "Give --data the folder that holds the data set.")
    for recognises, read in LAYOUTS.values():
        if recognises(data):
            return read(data, split, num_classes)
    raise DataError(
        f"{data.name!r} holds no data set that we know",
        "Put lidc-*.zip or LIDC-IDRI-slices/ there, or images/, masks/ and splits.csv (see the README).",
    )
