"""A folder of your own data.

    images/<name>.png          or .jpg, .tif: any size, gray or color
    masks/<name>.png           one rater, or
    masks/<rater>/<name>.png   several raters, each with a mask for every image, which is zero if nothing was marked
    splits.csv                 columns image,split[,group][,spacing_mm]

group is the patient or video; spacing_mm is the side of a pixel, or "rows columns" if they differ. A mask of one class holds 0 and
255, or 0 and 1; a mask of several classes holds the number of the class.
"""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import get_args

import numpy as np

from medseg_runtime.errors import DataError
from medseg_runtime.model.preprocess import Pixels
from medseg_trainer.data.case import Case, Cases, Entry, Labels, Split, check_size, decode_image, decode_mask
from medseg_trainer.data.splits import read_table


def recognises(data: Path) -> bool:
    """Tell whether a folder has this layout."""
    return (data / "images").is_dir()


def read(data: Path, split: Split, num_classes: int) -> Cases:
    """List the cases of one split; see `data.layouts.read_cases`."""
    raters = _raters(data)
    images = _by_stem(data / "images")
    masks = [_by_stem(rater) for rater in raters]
    rows = [row for row in _table(data, images) if row["split"] == split]
    if not rows:
        raise DataError(
            f"splits.csv names no image of the split {split!r}", "Write train, val or test into its column split."
        )
    for row in rows:
        stem = _stem(row["image"], images)
        if stem not in images:
            raise DataError(
                f"splits.csv names {row['image']!r}, which is not in images/", "Add the image, or remove the line."
            )
        for rater, found in zip(raters, masks, strict=True):
            if stem not in found:
                raise DataError(
                    f"images/{images[stem].name} has no mask in {rater.relative_to(data).as_posix()}/",
                    f"Add {stem}.png there; all zero if that rater marked nothing.",
                )
    return Cases([_entry(row, images, masks, num_classes) for row in rows])


def _entry(row: dict[str, str], images: dict[str, Path], masks: list[dict[str, Path]], num_classes: int) -> Entry:
    stem = _stem(row["image"], images)
    group, spacing = row.get("group") or stem, _spacing(row)

    def load() -> Case:
        image = decode_image(images[stem].read_bytes(), images[stem].name)
        labels = [_mask(found[stem], image, num_classes) for found in masks]
        return Case(name=stem, group=group, image=image, masks=np.stack(labels), spacing_mm=spacing)

    return Entry(stem, group, load)


def _stem(image: str, images: dict[str, Path]) -> str:
    """Return the stem of an image that a line names with or without a suffix. A UID contains dots."""
    return image if image in images else Path(image).stem


def _mask(path: Path, image: Pixels, num_classes: int) -> Labels:
    labels = decode_mask(path.read_bytes(), path.name, num_classes)
    check_size(labels, f"{path.parent.name}/{path.name}", image)
    return labels


def _spacing(row: dict[str, str]) -> tuple[float, float] | None:
    """Return the spacing of rows and columns that a line gives, or None."""
    text = row.get("spacing_mm") or ""
    try:
        sides = [float(side) for side in text.split()]
    except ValueError:
        sides = [math.nan]
    if len(sides) > 2 or not all(0.0 < side < math.inf for side in sides):
        raise DataError(
            f"splits.csv gives {row['image']!r} the spacing_mm {text!r}",
            'Write the side of a pixel in millimetres, or "rows columns", or nothing.',
        )
    return (sides[0], sides[-1]) if sides else None


def _table(data: Path, images: dict[str, Path]) -> list[dict[str, str]]:
    table = data / "splits.csv"
    remedy = "Write one line per image: image,split with train, val or test; and group, if images share a patient."
    if not table.is_file():
        raise DataError("splits.csv is missing next to images/", remedy)
    rows = read_table(table)
    if not rows or not {"image", "split"} <= rows[0].keys():
        raise DataError("splits.csv has no columns image and split", remedy)
    for row in rows:
        if row["split"] not in get_args(Split):
            raise DataError(f"splits.csv puts {row['image']!r} into {row['split']!r}", remedy)
    image, count = Counter(_stem(row["image"], images) for row in rows).most_common(1)[0]
    if count > 1:
        raise DataError(f"splits.csv names the image {image!r} {count} times", "Give each image one line.")
    split_of: dict[str, str] = {}
    for row in rows:
        group, split = row.get("group"), row["split"]
        if group and split_of.setdefault(group, split) != split:
            raise DataError(
                f"splits.csv puts the group {group!r} into {split_of[group]} and {split}", "Keep a group in one split."
            )
    return rows


def _raters(data: Path) -> list[Path]:
    root = data / "masks"
    if not root.is_dir():
        raise DataError(
            "masks/ is missing next to images/", "Put one mask per image there, or one folder of masks per rater."
        )
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith((".", "__")))
    return folders or [root]


def _by_stem(folder: Path) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for path in sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith(".")):
        if path.stem in files:
            raise DataError(
                f"{files[path.stem].name} and {path.name} in {folder.name}/ share a name", "Rename one of them."
            )
        files[path.stem] = path
    return files
