"""Write splits.csv for your own folder: whole groups, in a random order that a seed fixes.

A group is a patient or a video. It is the column group of a splits.csv that is there already, or what a pattern finds in the path of
an image, or the first folder below images/; otherwise each image is a group of its own. Folders in images/ that are called train, val
and test are kept as they are.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np

from medseg_runtime.errors import DataError, OutputError, ParameterError
from medseg_runtime.files.replace import replacing
from medseg_trainer.data.case import Split
from medseg_trainer.data.folder_table import group_of
from medseg_trainer.data.image_names import ImageNames
from medseg_trainer.data.mask_source import find_masks
from medseg_trainer.data.names import images_of
from medseg_trainer.data.splits import read_table

TABLE = "splits.csv"
FEWEST_GROUPS = 3
SPLIT_FOLDERS: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
"""Folders in images/ that are splits already, if all are."""
FOLDER = "the folder"
AS_GIVEN = "the folders of images/ are called as splits, and images stay in them; see that no patient is in two"
FOLDERS = "each folder of images/ was taken for a patient or video: if they are something else, say so with --group"
ALONE = "each image is a group of its own: if several are of one patient or video, say so with --group"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table."""

    image: str
    """Path below images/, with suffix."""
    split: Split
    group: str
    kept: dict[str, str]
    """The line of the table that was there."""


@dataclass(frozen=True, slots=True)
class SplitTable:
    """A new table, and how its groups were found."""

    lines: list[Line]
    grouped_by: str
    warnings: tuple[str, ...]

    def counts(self) -> dict[Split, tuple[int, int]]:
        """Return the numbers of images and groups of each split."""
        return {
            split: (len(found), len({line.group for line in found}))
            for split in get_args(Split)
            for found in [[line for line in self.lines if line.split == split]]
        }

    def write(self, data: Path, *, force: bool = False) -> None:
        """Write splits.csv into a data folder.

        Raises:
            OutputError: it is there already and `force` is not set, or it cannot be written.
        """
        path = data / TABLE
        if path.exists() and not force:
            raise OutputError(
                "splits.csv exists already, and a new split would put test images into training",
                "Give --force to replace it.",
            )
        further = sorted({column for line in self.lines for column in line.kept} - {"image", "split", "group"})
        try:
            with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)
                writer.writerow(["image", "split", "group", *further])
                for line in self.lines:
                    writer.writerow(
                        [line.image, line.split, line.group, *(line.kept.get(name, "") for name in further)]
                    )
        except OSError as error:
            raise OutputError(
                f"splits.csv cannot be written: {error.strerror}", "Give a folder that you may write to."
            ) from error


def split_folder(data: Path, *, val: float, test: float, seed: int, group: str | None) -> SplitTable:
    """Divide the images of a folder.

    val, test: shares of the images, 0 to 1; the rest is for training. group: a regular expression on the path of an image below
    images/; its first parentheses, or all that it matches, name the group.

    Raises:
        DataError: the folder has no images or masks, or too few groups.
        ParameterError: the shares leave nothing to train on, or the pattern does not match an image.
    """
    if not (0 <= val < 1 and 0 <= test < 1 and val + test < 1):
        raise ParameterError("the shares of val and test leave no training images", "Give --val 0.1 and --test 0.1.")
    _, images = find_masks(data, images_of(data), ())
    before = _lines_before(data / TABLE, images)
    given = _given_splits(images.keys())
    groups, grouped_by = _groups(list(images), before, group, depth=1 if given else 0)
    split_of, warnings = _kept(groups, given) if given else _divided(groups, val, test, seed)
    if len(set(groups.values())) == len(groups):
        warnings = (ALONE, *warnings)
    elif grouped_by == FOLDER and warnings:
        warnings = (FOLDERS, *warnings)
    lines = [
        Line(path.relative_to(data / "images").as_posix(), split_of[groups[name]], groups[name], before.get(name, {}))
        for name, path in images.items()
    ]
    return SplitTable(lines, grouped_by, warnings)


def _given_splits(images: Collection[str]) -> dict[str, Split]:
    """Return the split of each image if the folders in images/ are called train, val and test, or nothing."""
    found = {image: SPLIT_FOLDERS.get(image.partition("/")[0].casefold()) for image in images if "/" in image}
    given = {image: split for image, split in found.items() if split is not None}
    return given if len(given) == len(images) and len(set(given.values())) > 1 else {}


def _kept(groups: dict[str, str], given: dict[str, Split]) -> tuple[dict[str, Split], tuple[str, ...]]:
    """Return the split of each group, given that of each image, and a warning."""
    split_of: dict[str, Split] = {}
    for image, group in groups.items():
        if split_of.setdefault(group, given[image]) != given[image]:
            raise DataError(
                f"the folders of images/ put the group {group!r} into {split_of[group]} and {given[image]}",
                "Move its images into one of them, or name the groups otherwise.",
            )
    return split_of, (AS_GIVEN,)


def _lines_before(table: Path, images: dict[str, Path]) -> dict[str, dict[str, str]]:
    """Return what a table that is there says of each image."""
    if not table.is_file():
        return {}
    names, found = ImageNames(images), dict[str, dict[str, str]]()
    for line in read_table(table):
        for name in names.find(line.get("image", ""))[:1]:
            found[name] = line
    return found


def _groups(
    images: list[str], before: dict[str, dict[str, str]], pattern: str | None, *, depth: int
) -> tuple[dict[str, str], str]:
    """Return the group of each image, and how it was found; depth: of the folder of a patient below images/."""
    if pattern is not None:
        return {image: _matched(pattern, image) for image in images}, f"the pattern {pattern}"
    given = {image: group_of(before.get(image, {})) for image in images}
    if any(given.values()):
        return {image: given[image] or image for image in images}, "the column of the groups"
    folders = {image: "/".join(image.split("/")[: depth + 1]) for image in images}
    return folders, FOLDER if any(folders[image] != image for image in images) else "image"


def _matched(pattern: str, image: str) -> str:
    try:
        found = re.search(pattern, image)
    except re.error as error:
        raise ParameterError(f"--group is no regular expression: {error}", "Give, for example, '^([^_]+)_'.") from error
    if found is None:
        raise ParameterError(
            f"the pattern of --group does not match the image {image!r}", "Give one that matches each image."
        )
    return (found[1] if found.re.groups else found[0]) or image


def _divided(groups: dict[str, str], val: float, test: float, seed: int) -> tuple[dict[str, Split], tuple[str, ...]]:
    """Return the split of each group. val and test take groups in a random order, up to their share of the images."""
    sizes = Counter(groups.values())
    wanted: dict[Split, float] = {"val": val, "test": test}
    if len(sizes) < FEWEST_GROUPS:
        raise DataError(
            f"{len(groups)} images in {len(sizes)} groups cannot be shared among train, val and test",
            "Add images of other patients."
            if len(groups) < FEWEST_GROUPS
            else "Give --group with a pattern that finds the patient in the name; '.*' makes each image a group of its own.",
        )
    order = sorted(sizes)
    np.random.default_rng(seed).shuffle(order)
    free = [name for name in order if name != max(sizes, key=sizes.__getitem__)]  # the largest is for training
    split_of: dict[str, Split] = {}
    for split, share in wanted.items():
        kept = 1 if split == "val" and test > 0 else 0  # leave one for test
        taken = _taken(free, sizes, share * len(groups), most=len(free) - kept)
        split_of |= dict.fromkeys(taken, split)
        free = [name for name in free if name not in split_of]
    found: dict[str, Split] = {name: split_of.get(name, "train") for name in sizes}
    warnings = tuple(
        f"{split} has {count:.0%} of the images instead of {share:.0%}, because groups are kept whole"
        for split, share in {"train": 1 - val - test, **wanted}.items()
        for count in [sum(sizes[name] for name, one in found.items() if one == split) / len(groups)]
        if abs(count - share) > max(0.1, share / 2)
    )
    return found, warnings


def _taken(free: list[str], sizes: Counter[str], wanted: float, most: int) -> list[str]:
    """Return the groups, in their order, that bring the number of images nearer to the wanted one; one if none does."""
    taken, room = list[str](), wanted
    for name in free:
        if sizes[name] <= 2 * room and len(taken) < most:
            taken.append(name)
            room -= sizes[name]
    return taken or ([min(free, key=sizes.__getitem__)] if wanted > 0 else [])
