"""splits.csv of your own folder: which image is in which split."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast, get_args

from medseg_runtime.errors import DataError
from medseg_trainer.data.case import Split
from medseg_trainer.data.image_names import ImageNames
from medseg_trainer.data.splits import read_table

REMEDY = (
    "Write one line per image: image,split with train, val or test; and group, if images share a patient. "
    "`medseg-train split` does it."
)
GROUP_COLUMNS = ("group", "patient", "patient_id", "patientid", "subject", "subject_id", "video", "sequence")
"""Columns that name the patient or video of an image. The first that is filled is taken."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line."""

    image: str
    """Path below images/, without suffix."""
    split: Split
    group: str
    spacing_mm: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class TableProblem:
    """What is wrong with the images of a split."""

    error: DataError
    split: Split | None = None
    """None: it concerns all of them."""


def read_rows(table: Path, images: Collection[str]) -> tuple[list[Row], list[TableProblem]]:
    """Read the lines that are right, and say what is wrong with the others.

    Raises:
        DataError: there is no table, or it lacks a column.
    """
    if not table.is_file():
        raise DataError("splits.csv is missing next to images/", REMEDY)
    lines = read_table(table)
    if not lines:
        raise DataError("splits.csv has no line below the first, which names the columns image and split", REMEDY)
    if not {"image", "split"} <= lines[0].keys():
        raise DataError(f"splits.csv has no columns image and split; it has {', '.join(lines[0])}", REMEDY)
    rows, problems, names = list[Row](), list[TableProblem](), ImageNames(images)
    for line in lines:
        split = line["split"].lower()
        try:
            if split not in get_args(Split):
                raise DataError(f"splits.csv puts {line['image']!r} into {line['split']!r}", REMEDY)
            image = _image(line["image"], names)
            rows.append(Row(image, cast("Split", split), group_of(line) or image, _spacing(line)))
        except DataError as error:
            known = cast("Split", split) if split in get_args(Split) else None
            problems.append(TableProblem(error, known))
    return rows, [*problems, *map(TableProblem, _contradictions(rows))]


def group_of(line: dict[str, str]) -> str:
    """Return the patient or video that a line names, or an empty text."""
    named = {column.replace(" ", "_").replace("-", "_"): value for column, value in line.items()}
    return next((named[column] for column in GROUP_COLUMNS if named.get(column)), "")


def _image(given: str, names: ImageNames) -> str:
    found = names.find(given)
    if not found:
        raise DataError(
            f"splits.csv names {given!r}, which is not in images/",
            "Add the image as PNG, JPEG, TIFF, BMP or DICOM, or remove the line.",
        )
    if len(found) > 1:
        raise DataError(
            f"splits.csv names {given!r}, which may be {found[0]} or {found[1]}", "Write the folder before the name."
        )
    return found[0]


def _spacing(line: dict[str, str]) -> tuple[float, float] | None:
    """Return the spacing of rows and columns that a line gives, or None."""
    text = line.get("spacing_mm") or ""
    try:
        sides = [float(side) for side in text.split()]
    except ValueError:
        sides = [math.nan]
    if len(sides) > 2 or not all(0.0 < side < math.inf for side in sides):
        raise DataError(
            f"splits.csv gives {line['image']!r} the spacing_mm {text!r}",
            'Write the side of a pixel in millimetres, or "rows columns", or nothing.',
        )
    return (sides[0], sides[-1]) if sides else None


def _contradictions(rows: list[Row]) -> Iterator[DataError]:
    for image, count in Counter(row.image for row in rows).items():
        if count > 1:
            yield DataError(f"splits.csv names the image {image!r} {count} times", "Give each image one line.")
    split_of: dict[str, str] = {}
    told = set[str]()
    for row in rows:
        if split_of.setdefault(row.group, row.split) != row.split and row.group not in told:
            told.add(row.group)
            yield DataError(
                f"splits.csv puts the group {row.group!r} into {split_of[row.group]} and {row.split}",
                "Keep a group in one split.",
            )
