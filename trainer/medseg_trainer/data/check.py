"""Look at a data set before anyone trains on it: all that would be refused, and what a reader should know."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

import numpy as np

from medseg_runtime.errors import DataError
from medseg_runtime.figures.viewport import Canvas
from medseg_trainer.data import folder
from medseg_trainer.data.case import Case, Entry, Split
from medseg_trainer.data.check_sheet import render_panel
from medseg_trainer.data.duplicates import Hashed, difference_hash, duplicates
from medseg_trainer.data.folder import Listing
from medseg_trainer.data.layouts import layout_of
from medseg_trainer.data.names import files_below, pictures_in
from medseg_trainer.data.notes import Notes, shown_names

SHOWN: dict[Split, int] = {"train": 24, "val": 12, "test": 12}
"""Images of each split on the sheet."""
MOST_PAIRS = 20
LEAST_CONTRAST = 0.15


@dataclass(slots=True)
class SplitFigures:
    """What is in one split."""

    images: int = 0
    groups: set[str] = field(default_factory=set)
    sizes: Counter[str] = field(default_factory=Counter)
    raters: Counter[int] = field(default_factory=Counter)
    empty: int = 0
    """Images in which no rater marked anything."""
    shares: list[list[float]] = field(default_factory=list)
    """Share of the pixels of each class, for each image."""
    darkest: float = 1.0
    brightest: float = 0.0
    """Of the range that the intensity rule `unit` takes."""

    def add(self, case: Case, num_classes: int) -> None:
        """Count a case."""
        height, width = case.image.shape[:2]
        self.images += 1
        self.groups.add(case.group)
        self.sizes[f"{width}x{height}"] += 1
        self.raters[len(case.masks)] += 1
        self.empty += not case.masks.any()
        self.shares.append([float((case.masks == number).mean()) for number in range(1, num_classes + 1)])
        dtype: np.dtype = case.image.dtype
        low, high = case.value_range or (0.0, float(np.iinfo(dtype).max) if dtype.kind in "ui" else 1.0)
        span = (high - low) or 1.0
        self.darkest = min(self.darkest, (float(case.image.min()) - low) / span)
        self.brightest = max(self.brightest, (float(case.image.max()) - low) / span)

    @property
    def mean_shares(self) -> list[float]:
        """Mean share of the pixels of each class."""
        return np.mean(self.shares, axis=0).tolist() if self.shares else []


@dataclass(slots=True)
class Report:
    """What a check found."""

    layout: str
    masks: str
    classes: tuple[str, ...]
    splits: dict[str, SplitFigures] = field(default_factory=lambda: defaultdict(SplitFigures))
    problems: list[str] = field(default_factory=list)
    """What a training refuses."""
    warnings: list[str] = field(default_factory=list)
    panels: list[tuple[str, Canvas]] = field(default_factory=list)
    """Captions and pictures of the sheet."""


def check_data(data: Path, classes: Sequence[str]) -> Report:
    """Read all images and masks of a data set.

    classes: their names; a name may be empty if there is one class.

    Raises:
        DataError: there is no such folder, or it has no known layout.
    """
    layout = layout_of(data, classes[0] or None)
    report = Report(layout.name, "", tuple(classes))
    entries = _entries(data, classes, report, own=layout.read is folder.read)
    notes = Notes()
    hashed: list[Hashed] = []
    for split, found in entries.items():
        shown = {len(found) * k // SHOWN[split] for k in range(SHOWN[split])}
        for index, entry in enumerate(found):
            try:
                case = entry.load()
            except DataError as error:
                report.problems.append(str(error))
                continue
            report.splits[split].add(case, len(classes))
            hashed.append(Hashed(case.name, case.group, split, difference_hash(case.image)))
            notes.add(case)
            if index in shown:
                report.panels.append((f"{split}\n{case.name}", render_panel(case)))
    report.problems = list(dict.fromkeys(report.problems))  # a missing mask is noticed twice
    report.warnings += notes.lines()
    report.warnings += _duplicates(hashed)
    _judge(report)
    return report


def _entries(data: Path, classes: Sequence[str], report: Report, *, own: bool) -> dict[Split, list[Entry]]:
    """List the cases of each split, and note what is wrong before any is decoded."""
    try:
        if own:
            listing = folder.list_folder(data, classes)
            report.masks = listing.masks.description
            report.problems += [str(problem.error) for problem in listing.problems]
            report.warnings += _about_folder(data, listing)
            return {
                split: [listing.entry(row) for row in listing.rows if row.split == split] for split in get_args(Split)
            }
    except DataError as error:
        report.problems.append(str(error))
        return {}
    found: dict[Split, list[Entry]] = {}
    for split in get_args(Split):
        try:
            found[split] = list(layout_of(data, classes[0] or None).read(data, split, classes).entries)
        except DataError as error:
            if split != "test":  # it is not needed to train
                report.problems.append(str(error))
    return found


def _about_folder(data: Path, listing: Listing) -> list[str]:
    """Return what a reader should know of an own folder."""
    named = {row.image for row in listing.rows}
    missing = [image for image in listing.images if image not in named]
    passed = {*files_below(data / "images")} - {*pictures_in(data / "images").values()}
    splits: dict[str, set[str]] = defaultdict(set)
    for row in listing.rows:
        if "/" in row.image and row.group == row.image:
            splits[row.image.partition("/")[0]].add(row.split)
    divided = [top for top, found in splits.items() if len(found) > 1]
    facts = [
        (missing, "images are not in splits.csv, and are not used"),
        (
            sorted(path.name for path in passed if path.suffix != ".json"),
            "files of images/ are no images, and were passed over",
        ),
        (listing.masks.leftover, "masks belong to no image"),
        (divided, "folders of images/ are in several splits; if they are patients, name them in the column group"),
    ]
    warnings = [f"{len(names)} {what} ({shown_names(names)})" for names, what in facts if names]
    if listing.rows and all(row.group == row.image for row in listing.rows):
        warnings.append(
            "each image is a group of its own; if several are of one patient or video, name it in the column group"
        )
    return warnings


def _duplicates(hashed: list[Hashed]) -> list[str]:
    pairs = duplicates(hashed)
    shown = [
        f"{one.split}: {one.name} and {other.split}: {other.name} are nearly the same picture (difference hash, {bits} of 256 bits)"
        for one, other, bits in pairs[:MOST_PAIRS]
    ]
    return shown + [f"and {len(pairs) - MOST_PAIRS} more such pairs"] * (len(pairs) > MOST_PAIRS)


def _judge(report: Report) -> None:
    """Say what the figures mean for a training."""
    train = report.splits["train"]
    for split in ("train", "val"):
        if not report.splits[split].images:
            report.problems.append(f"there is no image to use in the split {split}")
    for name, share in zip(report.classes, train.mean_shares, strict=False):
        if not share:
            report.problems.append(f"no training mask marks any {name or 'foreground'}")
    raters = sorted({count for figures in report.splits.values() for count in figures.raters})
    if len(raters) > 1:
        report.problems.append(f"the number of raters differs: {', '.join(map(str, raters))}")
    if train.images and train.brightest - train.darkest < LEAST_CONTRAST:
        report.warnings.append(
            f"all pixels of train are between {train.darkest:.0%} and {train.brightest:.0%} of the range of their files, "
            "which presets for photographs refuse"
        )
