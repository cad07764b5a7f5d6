"""Training data: one reader per layout, all giving the same cases."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from medseg_runtime.errors import DataError
from medseg_trainer.data import folder, lidc
from medseg_trainer.data.case import Case, Split


@dataclass(frozen=True, slots=True)
class Layout:
    """A way in which data sets are published."""

    name: str
    recognises: Callable[[Path], bool]
    read: Callable[[Path, Split, int], Iterator[Case]]
    grouped_by: str
    """What must not be torn apart by a split: `patients`, or `groups` where the user decides."""
    licence: str
    citation: str


LAYOUTS = (
    Layout("LIDC-IDRI-slices", lidc.recognises, lidc.read, "patients", lidc.LICENCE, lidc.CITATION),
    Layout("own folder", folder.recognises, folder.read, "groups", "", ""),
)

__all__ = ["LAYOUTS", "Case", "Layout", "Split", "layout_of", "read_cases"]


def layout_of(data: Path) -> Layout:
    """Return the layout of a data folder.

    Raises:
        DataError: there is no such folder, or it has no layout that we know.
    """
    if not data.is_dir():
        raise DataError(f"there is no folder {data.name!r}", "Give --data the folder that holds the data set.")
    for layout in LAYOUTS:
        if layout.recognises(data):
            return layout
    raise DataError(
        f"{data.name!r} holds no data set that we know",
        "Put lidc-*.zip or LIDC-IDRI-slices/ there, or images/, masks/ and splits.csv (see the README).",
    )


def read_cases(data: Path, split: Split, num_classes: int) -> Iterator[Case]:
    """Read the cases of one split, in a fixed order, one at a time.

    Raises:
        DataError: no layout that we know, or files that are missing or do not pair.
    """
    return layout_of(data).read(data, split, num_classes)
