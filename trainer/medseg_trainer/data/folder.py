"""A folder of your own data.

    images/<name>.png           PNG, JPEG, TIFF, BMP or DICOM, any size, gray or color; sub-folders as you like
    masks/<name>.png            one rater, or
    masks/<rater>/<name>.png    several raters, each with a mask for every image, which is zero if nothing was marked
    splits.csv                  columns image,split[,group][,spacing_mm]; `medseg-train split` writes it

A mask may end in _mask, -label, _segmentation and the like; see `mask_names`. Instead of masks/ there may be outlines of COCO or
labelme; see `mask_source`. group is the patient or video; spacing_mm is the side of a pixel, or "rows columns" if they differ. A mask
of one class holds 0 and 255, or 0 and 1; a mask of several classes holds the number of the class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from medseg_runtime.errors import DataError
from medseg_runtime.files.read import read_bytes
from medseg_trainer.data.case import Case, Cases, Entry, Split, case_of
from medseg_trainer.data.folder_table import Row, TableProblem, read_rows
from medseg_trainer.data.images import read_image
from medseg_trainer.data.mask_source import MaskSource, find_masks
from medseg_trainer.data.names import images_of


def recognises(data: Path) -> bool:
    """Tell whether a folder has this layout."""
    return (data / "images").is_dir()


def read(data: Path, split: Split, classes: Sequence[str]) -> Cases:
    """List the cases of one split; see `data.layouts.read_cases`."""
    listing = list_folder(data, classes)
    for problem in listing.problems:
        if problem.split in (None, split):
            raise problem.error
    entries = [listing.entry(row) for row in listing.rows if row.split == split]
    if not entries:
        raise DataError(
            f"splits.csv names no image of the split {split!r}", "Write train, val or test into its column split."
        )
    return Cases(entries)


@dataclass(frozen=True, slots=True)
class Listing:
    """A folder before anything is decoded."""

    data: Path
    images: dict[str, Path]
    masks: MaskSource
    rows: list[Row]
    problems: list[TableProblem] = field(default_factory=list)

    def entry(self, row: Row) -> Entry:
        """Return the case of a row, not decoded."""
        return Entry(row.image, row.group, partial(self._load, row))

    def _load(self, row: Row) -> Case:
        path = self.images[row.image]
        name = path.relative_to(self.data).as_posix()
        image = read_image(read_bytes(path, DataError, "Give an image that may be read.", name=name), name)
        masks = self.masks.read(row.image)
        return case_of(row.image, row.group, image, masks, path=name, spacing_mm=row.spacing_mm)


def list_folder(data: Path, classes: Sequence[str]) -> Listing:
    """List the images of a folder with their splits and masks, and all that is wrong with them.

    Raises:
        DataError: there are no images, no masks or no table.
    """
    pictures = images_of(data)
    masks, images = find_masks(data, pictures, classes)
    rows, problems = read_rows(data / "splits.csv", images)
    for row in rows:
        try:
            masks.check(row.image)
        except DataError as error:
            problems.append(TableProblem(error, row.split))
    return Listing(data, images, masks, rows, problems)
