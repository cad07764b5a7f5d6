"""LIDC-IDRI as nodule crops with four raters, in the layout of the published set "LIDC-IDRI-slices".

    LIDC-IDRI-slices/<patient>/nodule-<k>/images/slice-<n>.png
    LIDC-IDRI-slices/<patient>/nodule-<k>/mask-{0..3}/slice-<n>.png

as a folder, or as zips named lidc-<split>-<part>.zip. A folder is split by splits.csv (patient,split). Without that file, the
hash of a patient's name decides: 80 % train, 10 % val, 10 % test.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from medseg_runtime.errors import DataError
from medseg_trainer.data.archive import Files, files_in_folder, files_in_zips
from medseg_trainer.data.case import Case, Cases, Entry, Split, read_case
from medseg_trainer.data.splits import check_named, check_paired, hashed_split, split_table

LICENCE = "LIDC-IDRI is CC BY 3.0 (https://creativecommons.org/licenses/by/3.0/)"
CITATION = (
    "Armato et al. 2011, The Lung Image Database Consortium (LIDC) and Image Database Resource Initiative (IDRI), Medical Physics 38(2), 915-931; "
    "TCIA, doi 10.7937/K9/TCIA.2015.LO9QL9SX"
)
ROOT = "LIDC-IDRI-slices"
RATERS = 4
IMAGE = re.compile(rf"^(?P<nodule>{ROOT}/(?P<patient>[^/]+)/nodule-\d+)/images/(?P<slice>slice-\d+\.png)$")


def recognises(data: Path) -> bool:
    """Tell whether a folder has this layout."""
    return (data / ROOT).is_dir() or any(data.glob("lidc-*.zip"))


def read(data: Path, split: Split, classes: Sequence[str]) -> Cases:
    """List the cases of one split; see `data.layouts.read_cases`."""
    if len(classes) != 1:
        raise DataError(
            f"LIDC-IDRI has one class, not {len(classes)}", "Use a configuration with the class nodule alone."
        )
    files, wanted = _files(data, split)
    matches = sorted((m for m in map(IMAGE.match, files) if m), key=lambda m: _natural(m.string))
    check_named(wanted or (), {m["patient"] for m in matches}, "patient")
    found = [m for m in matches if wanted is None or wanted.get(m["patient"], hashed_split(m["patient"])) == split]
    if not found:
        raise DataError(
            f"{data.name!r} has no LIDC slices of the split {split!r}",
            f"Add lidc-{split}-0.zip, or patients to splits.csv.",
        )
    check_paired([mask for m in found for mask in _masks(m)], files, "every slice has four")
    return Cases([Entry(_name(m), m["patient"], partial(_case, files, m)) for m in found])


def _files(data: Path, split: Split) -> tuple[Files, dict[str, str] | None]:
    """Return the files, and the table of splits; None for zips, whose names give the split."""
    if not (data / ROOT).is_dir():
        return files_in_zips(list(data.glob(f"lidc-{split}-*.zip"))), None
    return files_in_folder(data), split_table(data, "patient")


def _name(image: re.Match[str]) -> str:
    return f"{image['nodule'].removeprefix(ROOT + '/')}/{image['slice'].removesuffix('.png')}"


def _masks(image: re.Match[str]) -> list[str]:
    return [f"{image['nodule']}/mask-{rater}/{image['slice']}" for rater in range(RATERS)]


def _case(files: Files, m: re.Match[str]) -> Case:
    return read_case(_name(m), m["patient"], files, m.string, _masks(m))


def _natural(name: str) -> list[tuple[int, str]]:
    """Return a sort key that puts slice-10 after slice-9: numbers are compared by their length first."""
    parts = re.split(r"([0-9]+)", name)
    return [(len(part.lstrip("0")), part) if place % 2 else (0, part) for place, part in enumerate(parts)]
