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


def read_table(table: Path) -> list[dict[str, str]]:
    """Read a CSV file with a line of column names; what a short line lacks is empty.

    Raises:
        DataError: it is no such text.
    """
    try:
        with table.open(newline="", encoding="utf-8-sig") as lines:
            return [{key: value or "" for key, value in row.items() if key} for row in csv.DictReader(lines)]
    except (OSError, UnicodeError, csv.Error) as error:
        raise DataError(f"{table.name} cannot be read: {error}", "Save it as CSV in UTF-8.") from error


def split_table(data: Path, unit: str) -> dict[str, str]:
    """Read splits.csv with the columns `unit` and split; without that file nothing is known of any.

    Raises:
        DataError: a line lacks either, names another split than train, val or test, or a unit that is in another one.
    """
    table = data / "splits.csv"
    if not table.is_file():
        return {}
    rows = read_table(table)
    if not all(row.get(unit) and row.get("split") in get_args(Split) for row in rows):
        raise DataError(
            f"splits.csv does not put each {unit} into train, val or test", f"Give it the columns {unit} and split."
        )
    found: dict[str, str] = {}
    for row in rows:
        if found.setdefault(row[unit], row["split"]) != row["split"]:
            raise DataError(
                f"splits.csv puts the {unit} {row[unit]!r} into {found[row[unit]]} and {row['split']}",
                "Keep it in one of them.",
            )
    return found


def check_named(table: Collection[str], known: Collection[str], unit: str) -> None:
    """Refuse a table whose lines mean nobody: who was meant would go where a hash puts them, a test patient into training.

    Raises:
        DataError: a line names something that is not there; the first of them.
    """
    unknown = sorted(set(table) - set(known))
    if unknown:
        raise DataError(
            f"splits.csv names the {unit} {unknown[0]!r}, which is not there",
            f"Write it as the data set does, for example {min(known, default='...')!r}, or take out the line.",
        )


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
