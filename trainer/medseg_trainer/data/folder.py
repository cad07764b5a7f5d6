"""Anyone's own data.

    images/<name>.png          or .jpg, .tif: any size, grey or colour
    masks/<name>.png           one rater, or
    masks/<rater>/<name>.png   several, each with a mask for every image (all zero where nothing was marked)
    splits.csv                 columns image,split[,group]; group is the patient or video

A mask is 0 / 255 (or 0 / 1) for one class, and holds the number of the class for several.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import numpy as np

from medseg_runtime.errors import DataError
from medseg_trainer.data.case import Case, Split, decode_image, decode_mask


def recognises(data: Path) -> bool:
    """Tell whether a folder holds this layout."""
    return (data / "images").is_dir()


def read(data: Path, split: Split, num_classes: int) -> Iterator[Case]:
    """Read one split; see `medseg_trainer.data.read_cases`."""
    raters = _raters(data)
    images = _by_stem(data / "images")
    masks = [_by_stem(rater) for rater in raters]
    rows = [row for row in _table(data) if row["split"] == split]
    if not rows:
        raise DataError(
            f"splits.csv names no image of the split {split!r}", "Write train, val or test into its column split."
        )
    for row in rows:
        stem = Path(row["image"]).stem
        if stem not in images:
            raise DataError(
                f"splits.csv names {row['image']!r}, which is not in images/", "Add the image, or take out the row."
            )
        for rater, found in zip(raters, masks, strict=True):
            if stem not in found:
                raise DataError(
                    f"images/{images[stem].name} has no mask in {rater.relative_to(data).as_posix()}/",
                    f"Add {stem}.png there; all zero where that rater marked nothing.",
                )
    return _cases(rows, images, masks, num_classes)


def _cases(
    rows: list[dict[str, str]], images: dict[str, Path], masks: list[dict[str, Path]], num_classes: int
) -> Iterator[Case]:
    for row in rows:
        stem = Path(row["image"]).stem
        image = decode_image(images[stem].read_bytes(), images[stem].name)
        labels = [decode_mask(found[stem].read_bytes(), found[stem].name, num_classes) for found in masks]
        for found, label in zip(masks, labels, strict=True):
            if label.shape != image.shape[:2]:
                size = "{1}x{0}".format(*label.shape)
                raise DataError(
                    f"{found[stem].parent.name}/{found[stem].name} is {size} px, its image {image.shape[1]}x{image.shape[0]}",
                    "Export the mask in the image's own size.",
                )
        yield Case(name=stem, group=row.get("group") or stem, image=image, masks=np.stack(labels))


def _table(data: Path) -> list[dict[str, str]]:
    table = data / "splits.csv"
    remedy = "Write one line per image: image,split with train, val or test; and group, where images share a patient."
    if not table.is_file():
        raise DataError("splits.csv is missing beside images/", remedy)
    with table.open(newline="", encoding="utf-8-sig") as lines:
        rows = list(csv.DictReader(lines))
    if not rows or not {"image", "split"} <= rows[0].keys():
        raise DataError("splits.csv has no columns image and split", remedy)
    for row in rows:
        if row["split"] not in get_args(Split):
            raise DataError(f"splits.csv puts {row['image']!r} into {row['split']!r}", remedy)
    image, count = Counter(Path(row["image"]).stem for row in rows).most_common(1)[0]
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
            "masks/ is missing beside images/", "Put one mask per image there, or one folder of masks per rater."
        )
    folders = sorted(path for path in root.iterdir() if path.is_dir())
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
