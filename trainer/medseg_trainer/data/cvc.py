"""CVC-ClinicDB, polyps in colonoscopy with one outline each, in its published layout.

    CVC-ClinicDB/PNG/Original/<frame>.png
    CVC-ClinicDB/PNG/Ground Truth/<frame>.png
    CVC-ClinicDB/sequences.csv                   columns frame,sequence: which video a frame is from

as a folder, or as zips named cvc-clinicdb-<split>-<part>.zip. PNG/ may be TIF/ or missing, and CVC-ClinicDB/ may be missing. A
frame that is there as PNG and as TIFF is read from the PNG. Neighboring frames are near copies, so a sequence is in one split:
that of splits.csv (sequence,split), otherwise that of the hash of "sequence-<number>": 80 % train, 10 % val, 10 % test.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from medseg_runtime.errors import DataError
from medseg_trainer.data.archive import Files, files_in_folder, files_in_zips
from medseg_trainer.data.case import Case, Cases, Entry, Split, read_case
from medseg_trainer.data.splits import check_named, check_paired, hashed_split, split_table, table_rows

LICENCE = "CVC-ClinicDB is for research and education only"
CITATION = (
    "Bernal et al. 2015, WM-DOVA maps for accurate polyp highlighting in colonoscopy, "
    "Computerized Medical Imaging and Graphics 43, 99-111"
)
ROOT = "CVC-ClinicDB"
PARTS = [f"{root}{part}" for root in (f"{ROOT}/", "") for part in ("PNG", "TIF", "")]
TABLE = re.compile(rf"^(?:{ROOT}/)?sequences\.csv$")
IMAGE = re.compile(rf"^(?P<root>(?:{ROOT}/)?(?:PNG/|TIF/)?)Original/(?P<frame>[0-9]{{1,18}})(?P<suffix>\.png|\.tiff?)$")


def recognises(data: Path) -> bool:
    """Tell whether a folder has this layout."""
    return any((data / part / "Original").is_dir() for part in PARTS) or any(data.glob("cvc-clinicdb-*.zip"))


def read(data: Path, split: Split, classes: Sequence[str]) -> Cases:
    """List the cases of one split; see `data.layouts.read_cases`."""
    if len(classes) != 1:
        raise DataError(
            f"CVC-ClinicDB has one class, not {len(classes)}", "Use a configuration with the class polyp alone."
        )
    archives = sorted(data.glob("cvc-clinicdb-*.zip"))
    trees = (
        [files_in_zips([archive]) for archive in archives if f"-{split}-" in archive.name]
        if archives
        else [files_in_folder(data)]
    )
    table = None if archives else split_table(data, "sequence")
    entries = [entry for files in trees for entry in _entries(files, split, table)]
    if not entries:
        raise DataError(
            f"{data.name!r} has no CVC-ClinicDB frames of the split {split!r}",
            f"Add cvc-clinicdb-{split}-0.zip, or sequences to splits.csv.",
        )
    return Cases(sorted(entries, key=lambda entry: int(entry.name)))


def _entries(files: Files, split: Split, table: dict[str, str] | None) -> list[Entry]:
    """Return the frames of one tree that are in a split; all of them if `table` is None."""
    matches = {
        m["frame"]: m for m in map(IMAGE.match, sorted(files, reverse=True)) if m
    }  # .png after .tif, and replaces it
    sequences = _sequences(files)
    unknown = sorted(matches.keys() - sequences.keys(), key=int)
    if unknown:
        raise DataError(
            f"sequences.csv does not say which video frame {unknown[0]} is from",
            "Give it a line frame,sequence for every frame; splits must not share a sequence.",
        )
    check_named(table or (), set(sequences.values()), "sequence")
    found = [
        m
        for frame, m in matches.items()
        if table is None or table.get(sequences[frame], hashed_split(f"sequence-{sequences[frame]}")) == split
    ]
    check_paired([_mask(m) for m in found], files, "every frame of Original/ has one of its name in Ground Truth/")
    return [
        Entry(m["frame"], f"sequence-{(number := sequences[m['frame']])}", partial(_case, files, m, number))
        for m in found
    ]


def _sequences(files: Files) -> dict[str, str]:
    """Return the sequence of each frame."""
    name = next(filter(TABLE.match, files), None)
    if name is None:
        raise DataError(
            "sequences.csv is missing, which keeps the frames of one video in one split",
            f"Put it into {ROOT}/, with the columns frame and sequence.",
        )
    rows = table_rows(files[name](), name)
    if not all(row.get("frame") and row.get("sequence") for row in rows):
        raise DataError("sequences.csv has no columns frame and sequence", "Give it both, one line a frame.")
    return {row["frame"]: row["sequence"] for row in rows}


def _mask(image: re.Match[str]) -> str:
    return f"{image['root']}Ground Truth/{image['frame']}{image['suffix']}"


def _case(files: Files, match: re.Match[str], sequence: str) -> Case:
    return read_case(match["frame"], f"sequence-{sequence}", files, match.string, [_mask(match)])
