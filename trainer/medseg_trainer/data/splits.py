"""Which split a patient, image or video sequence is in: by splits.csv, or by its name."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Collection
from pathlib import Path
from typing import get_args

from medseg_runtime.errors import DataError
from medseg_trainer.data.case import Split


def hashed_split(name: str) -> Split:
    """Return the split of what no table names: 80 % train, 10 % val, 10 % test, the same for ever."""
    tenth = int(hashlib.sha256(name.encode()).hexdigest(), 16) % 10
    return "val" if tenth == 0 else "test" if tenth == 1 else "train"


def split_table(data: Path, unit: str) -> dict[str, str]:
    """Read splits.csv with the columns `unit` and split; without that file nothing is known of any.

    Raises:
        DataError: a line lacks either, or names another split than train, val or test.
    """
    table = data / "splits.csv"
    if not table.is_file():
        return {}
    with table.open(newline="", encoding="utf-8-sig") as lines:
        rows = list(csv.DictReader(lines))
    if not all(row.get(unit) and row.get("split") in get_args(Split) for row in rows):
        raise DataError(
            f"splits.csv does not put each {unit} into train, val or test", f"Give it the columns {unit} and split."
        )
    return {row[unit]: row["split"] for row in rows}


def check_paired(wanted: Collection[str], files: Collection[str], rule: str) -> None:
    """Refuse a split whose masks are not all there, before anything is decoded.

    wanted: paths of the masks. rule: what the remedy reminds of, for example "every slice has four".

    Raises:
        DataError: one is missing; the first of them is named.
    """
    missing = [mask for mask in wanted if mask not in files]
    if missing:
        raise DataError(
            f"{len(missing)} masks are missing, the first is {missing[0]}", f"Unpack the data set again: {rule}."
        )
