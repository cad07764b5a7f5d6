"""The layouts of training data, and the choice among them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from medseg_runtime.errors import DataError
from medseg_trainer.data import cvc, folder, isic, lidc
from medseg_trainer.data.case import Case, Cases, Split
from medseg_trainer.data.names import folders_in


@dataclass(frozen=True, slots=True)
class Layout:
    """How a data set is arranged on disk, and what a run records about it."""

    name: str
    recognises: Callable[[Path], bool]
    read: Callable[[Path, Split, Sequence[str]], Cases]
    grouped_by: str
    """The units that a split keeps together: `patients`; `groups` for your own folder."""
    structure: str
    """The class that its masks outline, as the presets name it; empty for your own folder."""
    licence: str
    citation: str


LAYOUTS = (
    Layout("LIDC-IDRI-slices", lidc.recognises, lidc.read, "patients", "nodule", lidc.LICENCE, lidc.CITATION),
    Layout("ISIC-2018 Task 1", isic.recognises, isic.read, "images", "lesion", isic.LICENCE, isic.CITATION),
    Layout("CVC-ClinicDB", cvc.recognises, cvc.read, "video sequences", "polyp", cvc.LICENCE, cvc.CITATION),
    Layout("own folder", folder.recognises, folder.read, "groups", "", "", ""),
)

__all__ = ["LAYOUTS", "Case", "Cases", "Layout", "Split", "layout_of", "read_cases"]


def layout_of(data: Path, structure: str | None = None) -> Layout:
    """Return the layout of a data folder.

    structure: the class to segment, which decides if a folder holds several data sets; None: the first of `LAYOUTS`.

    Raises:
        DataError: there is no such folder, it has no known layout, or it has several and none of that structure.
    """
    if not data.is_dir():
        raise DataError(f"there is no folder {data.name!r}", "Give --data the folder that holds the data set.")
    found = [layout for layout in LAYOUTS if layout.recognises(data)]
    if not found:
        folders = folders_in(data)
        raise DataError(
            f"{data.name!r} holds no data set of a known layout{folders and f', but {folders}'}",
            "Put lidc-*.zip or LIDC-IDRI-slices/ there, ISIC-2018 or CVC-ClinicDB as published, or images/ with masks/ and splits.csv "
            "(see the README).",
        )
    fitting = found if structure is None or len(found) == 1 else [one for one in found if one.structure == structure]
    if not fitting:
        raise DataError(
            f"{data.name!r} holds {', '.join(one.name for one in found)}, and none of them outlines a {structure}",
            "Give --data a folder with one data set.",
        )
    return fitting[0]


def read_cases(data: Path, split: Split, num_classes: int, classes: Sequence[str] = ()) -> Cases:
    """List the cases of one split, in a fixed order. A case is decoded when it is accessed.

    classes: their names, which choose among several data sets (see `layout_of`) and among the categories of polygons.

    Raises:
        DataError: the layout is unknown, files are missing, or images and masks do not pair.
    """
    names = tuple(classes) or ("",) * num_classes
    return layout_of(data, names[0] or None).read(data, split, names)
