"""LIDC-IDRI as nodule crops with four raters, in the layout of the published set "LIDC-IDRI-slices".

    LIDC-IDRI-slices/<patient>/nodule-<k>/images/slice-<n>.png
    LIDC-IDRI-slices/<patient>/nodule-<k>/mask-{0..3}/slice-<n>.png

as a folder, or as zips named lidc-<split>-<part>.zip. A folder has its splits in splits.csv (patient,split); without that file
a patient's split follows from the hash of the name: 80 % train, 10 % val, 10 % test.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import numpy as np

from medseg_runtime.errors import DataError
from medseg_trainer.data.case import Case, Files, Split, decode_image, decode_mask, files_in_folder, files_in_zips

LICENCE = "LIDC-IDRI is CC BY 3.0 (https://creativecommons.org/licenses/by/3.0/)"
CITATION = (
    "Armato et al. 2011, The Lung Image Database Consortium (LIDC) and Image Database Resource Initiative (IDRI), Medical Physics 38(2), 915-931; "
    "TCIA, doi 10.7937/K9/TCIA.2015.LO9QL9SX"
)
ROOT = "LIDC-IDRI-slices"
RATERS = 4
IMAGE = re.compile(rf"^(?P<nodule>{ROOT}/(?P<patient>[^/]+)/nodule-\d+)/images/(?P<slice>slice-\d+\.png)$")


def recognises(data: Path) -> bool:
    """Tell whether a folder holds this layout."""
    return (data / ROOT).is_dir() or any(data.glob("lidc-*.zip"))


def read(data: Path, split: Split, num_classes: int) -> Iterator[Case]:
    """Read one split; see `medseg_trainer.data.read_cases`."""
    if num_classes != 1:
        raise DataError(
            f"LIDC-IDRI has one class, not {num_classes}", "Use a configuration with the class nodule alone."
        )
    files, wanted = _files(data, split)
    matches = sorted((m for m in map(IMAGE.match, files) if m), key=lambda m: _natural(m.string))
    found = [m for m in matches if wanted is None or wanted.get(m["patient"], _split_of(m["patient"])) == split]
    if not found:
        raise DataError(
            f"{data.name!r} has no LIDC slices of the split {split!r}",
            f"Add lidc-{split}-0.zip, or patients to splits.csv.",
        )
    missing = [
        f"{m['nodule']}/mask-{r}/{m['slice']}"
        for m in found
        for r in range(RATERS)
        if f"{m['nodule']}/mask-{r}/{m['slice']}" not in files
    ]
    if missing:
        raise DataError(
            f"{len(missing)} masks are missing, the first is {missing[0]}",
            "Unpack the data set again: every slice has four.",
        )
    return _cases(files, found)


def _files(data: Path, split: Split) -> tuple[Files, dict[str, str] | None]:
    """Return the files, and each patient's split where the files do not tell."""
    if not (data / ROOT).is_dir():
        return files_in_zips(list(data.glob(f"lidc-{split}-*.zip"))), None
    table = data / "splits.csv"
    if not table.is_file():
        return files_in_folder(data), {}
    with table.open(newline="", encoding="utf-8-sig") as lines:
        rows = list(csv.DictReader(lines))
    if not all(row.get("patient") and row.get("split") in get_args(Split) for row in rows):
        raise DataError(
            "splits.csv does not put each patient into train, val or test", "Give it the columns patient and split."
        )
    return files_in_folder(data), {row["patient"]: row["split"] for row in rows}


def _cases(files: Files, found: list[re.Match[str]]) -> Iterator[Case]:
    for m in found:
        masks = [f"{m['nodule']}/mask-{rater}/{m['slice']}" for rater in range(RATERS)]
        yield Case(
            name=f"{m['nodule'].removeprefix(ROOT + '/')}/{m['slice'].removesuffix('.png')}",
            group=m["patient"],
            image=decode_image(files[m.string](), m.string),
            masks=np.stack([decode_mask(files[mask](), mask, 1) for mask in masks]),
        )


def _split_of(patient: str) -> Split:
    """Return the split of a patient that no table names, from the hash of the name."""
    tenth = int(hashlib.sha256(patient.encode()).hexdigest(), 16) % 10
    return "val" if tenth == 0 else "test" if tenth == 1 else "train"


def _natural(name: str) -> list[int | str]:
    """Sort slice-10 behind slice-9."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]
