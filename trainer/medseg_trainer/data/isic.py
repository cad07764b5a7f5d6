"""ISIC-2018 Task 1, skin lesions in dermoscopy with one outline each, in its published layout.

    ISIC2018_Task1-2_Training_Input/<id>.jpg
    ISIC2018_Task1_Training_GroundTruth/<id>_segmentation.png

and the same with Validation and Test: as folders, as the published zips of these names, or as zips named
isic2018-*-<split>-<part>.zip, each with images of one split. The first two are split by splits.csv (image,split). Without that
file, Training, Validation and Test are train, val and test. If only Training is there, the hash of an image's name decides:
80 % train, 10 % val, 10 % test.
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

LICENCE = "ISIC-2018 is CC BY-NC 4.0 (https://creativecommons.org/licenses/by-nc/4.0/): research only"
CITATION = (
    "Codella et al. 2019, Skin Lesion Analysis Toward Melanoma Detection 2018, arXiv 1902.03368; "
    "Tschandl et al. 2018, The HAM10000 dataset, Scientific Data 5, 180161"
)
FOLDERS = "ISIC2018_Task1*"
SPLIT_OF_PART: dict[str, Split] = {"Training": "train", "Validation": "val", "Test": "test"}
IMAGE = re.compile(r"^ISIC2018_Task1-2_(?P<part>Training|Validation|Test)_Input/(?P<id>ISIC_\d+)\.(?:jpg|png)$")


def recognises(data: Path) -> bool:
    """Tell whether a folder has this layout."""
    return any(data.glob("ISIC2018_Task1-2_*_Input*")) or any(data.glob("isic2018-*.zip"))


def read(data: Path, split: Split, classes: Sequence[str]) -> Cases:
    """List the cases of one split; see `data.layouts.read_cases`."""
    if len(classes) != 1:
        raise DataError(
            f"ISIC-2018 Task 1 has one class, not {len(classes)}", "Use a configuration with the class lesion alone."
        )
    files = _files(data, split)
    images = [match for match in map(IMAGE.match, sorted(files)) if match]
    split_of = _splits(data, split, images)
    found = [match for match in images if split_of[match["id"]] == split]
    if not found:
        raise DataError(
            f"{data.name!r} has no ISIC-2018 images of the split {split!r}",
            f"Add isic2018-256px-{split}-0.zip or the published folders, or images to splits.csv.",
        )
    check_paired([_mask(match) for match in found], files, "every image has one <id>_segmentation.png")
    return Cases([Entry(m["id"], m["id"], partial(_case, files, m)) for m in found])


def _files(data: Path, split: Split) -> Files:
    """Return the files of the zips of a split; without such zips, of all published folders and zips."""
    archives = list(data.glob("isic2018-*.zip"))
    if archives:
        return files_in_zips([archive for archive in archives if f"-{split}-" in archive.name])
    files = files_in_zips(list(data.glob(f"{FOLDERS}.zip")))
    for folder in sorted(path for path in data.glob(FOLDERS) if path.is_dir()):
        files |= {f"{folder.name}/{name}": read for name, read in files_in_folder(folder).items()}
    return files


def _splits(data: Path, split: Split, images: list[re.Match[str]]) -> dict[str, str]:
    """Return the split of each image."""
    if any(data.glob("isic2018-*.zip")):
        return dict.fromkeys((match["id"] for match in images), split)
    table = {Path(name).stem: given for name, given in split_table(data, "image").items()}
    check_named(table, {match["id"] for match in images}, "image")
    if table or {match["part"] for match in images} == {"Training"}:
        return {match["id"]: table.get(match["id"], hashed_split(match["id"])) for match in images}
    return {match["id"]: SPLIT_OF_PART[match["part"]] for match in images}


def _mask(image: re.Match[str]) -> str:
    return f"ISIC2018_Task1_{image['part']}_GroundTruth/{image['id']}_segmentation.png"


def _case(files: Files, match: re.Match[str]) -> Case:
    return read_case(match["id"], match["id"], files, match.string, [_mask(match)])
