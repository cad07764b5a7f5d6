"""Assign patients, images or video sequences to splits: by splits.csv, or by the hash of the name."""

from __future__ import annotations

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Collection
from itertools import zip_longest
from pathlib import Path
from typing import get_args

from medseg_runtime.errors import DataError
from medseg_runtime.files.read import read_bytes
from medseg_trainer.data.case import Split

IN_UTF_8 = "Save it as CSV in UTF-8."


def hashed_split(name: str) -> Split:
    """Return the split of a name that no table holds: 80 % train, 10 % val, 10 % test. It must never change."""
    tenth = int(hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest(), 16) % 10
    return "val" if tenth == 0 else "test" if tenth == 1 else "train"


def read_table(table: Path) -> list[dict[str, str]]:
    """Read a CSV file; see `table_rows`.

    Raises:
        DataError: the file cannot be read as CSV in UTF-8.
    """
    return table_rows(read_bytes(table, DataError, IN_UTF_8, name=table.name), table.name)


def table_rows(content: bytes, name: str) -> list[dict[str, str]]:
    """Return the lines of a CSV table by the names of its columns, in lower case. Missing values of a short line are empty.

    The separator is a comma, a semicolon or a tab, as the first line has it. Spaces around values are dropped.

    Raises:
        DataError: it is not CSV in UTF-8, or has two columns of one name.
    """
    try:
        text = content.decode("utf-8-sig")
        header = text.lstrip().partition("\n")[0]
        lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=header.count), strict=True))
    except (UnicodeError, csv.Error) as error:
        raise DataError(f"{name} cannot be read: {error}", IN_UTF_8) from error
    filled = [[value.strip() for value in line] for line in lines if any(value.strip() for value in line)]
    columns = [column.lower() for column in filled[0]] if filled else []
    twice = [column for column, count in Counter(columns).items() if column and count > 1]
    if twice:
        raise DataError(f"{name} has the column {twice[0]} twice", "Keep one of them.")
    return [
        {column: value for column, value in zip_longest(columns, line[: len(columns)], fillvalue="") if column}
        for line in filled[1:]
    ]


def split_table(data: Path, unit: str) -> dict[str, str]:
    """Read splits.csv, with the columns `unit` and split; empty if there is no such file.

    unit: patient, image or sequence.

    Raises:
        DataError: a line lacks a value, names an unknown split, or puts a unit into a second split.
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
    """Reject unknown names in splits.csv. Ignored, a misspelled test patient would be split by its hash, perhaps into training.

    Raises:
        DataError: a line names a unit that the data set lacks; the first is shown.
    """
    unknown = sorted(set(table) - set(known))
    if unknown:
        raise DataError(
            f"splits.csv names the {unit} {unknown[0]!r}, which is not there",
            f"Write it as the data set does, for example {min(known, default='...')!r}, or remove the line.",
        )


def check_paired(wanted: Collection[str], files: Collection[str], rule: str) -> None:
    """Refuse missing masks before anything is decoded.

    wanted: paths of the masks. rule: how images and masks pair, for the remedy, for example "every slice has four".

    Raises:
        DataError: masks are missing; the first is shown.
    """
    missing = [mask for mask in wanted if mask not in files]
    if missing:
        raise DataError(
            f"{len(missing)} masks are missing, the first is {missing[0]}", f"Unpack the data set again: {rule}."
        )
