"""Images with the masks of their raters."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from medseg_runtime.model.preprocess import Pixels
from medseg_runtime.readers.source import SourceImage
from medseg_trainer.data.archive import Files
from medseg_trainer.data.images import TrainingImage, check_pair, read_image
from medseg_trainer.data.masks import Labels, Mask, decode_mask, read_mask

Split = Literal["train", "val", "test"]

__all__ = ["Case", "Cases", "Entry", "Labels", "Split", "case_of", "decode_mask", "read_case"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One image with the masks of its raters."""

    name: str
    group: str
    """Patient or video sequence. Splits and bootstraps keep a group together."""
    image: Pixels
    """(H, W) or (H, W, 3)."""
    masks: Labels
    """(R, H, W) labels, 0 for background. The mask of a rater who marked nothing is empty."""
    spacing_mm: tuple[float, float] | None = None
    """Distance of neighboring rows and of neighboring columns, if known."""
    value_range: tuple[float, float] | None = None
    """The intensities that the rule `unit` maps to 0 and 1; see `SourceImage`."""
    warnings: tuple[str, ...] = ()
    """How the image and its masks were read, one sentence each."""

    @property
    def source(self) -> SourceImage:
        """The image as the segmenter takes it."""
        return SourceImage(
            pixels=self.image, sha256="", kind="array", spacing_mm=self.spacing_mm, value_range=self.value_range
        )


@dataclass(frozen=True, slots=True)
class Entry:
    """A case that is not decoded."""

    name: str
    group: str
    load: Callable[[], Case]


@dataclass(frozen=True, slots=True)
class Cases:
    """The cases of a split, in a fixed order. A case is decoded at each access, and not kept in memory."""

    entries: Sequence[Entry]

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[Case]:
        return (entry.load() for entry in self.entries)

    def __getitem__(self, index: int) -> Case:
        return self.entries[index].load()

    @property
    def names_sha256(self) -> str:
        """Hash of the names and groups, whatever their order."""
        lines = sorted(f"{entry.group}\t{entry.name}\n" for entry in self.entries)
        return hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()

    @property
    def num_groups(self) -> int:
        """Number of patients or video sequences."""
        return len({entry.group for entry in self.entries})

    def evenly(self, count: int | None) -> Cases:
        """Return `count` cases, evenly spaced; all if there are no more, or for None."""
        if count is None or count >= len(self):
            return self
        return Cases([self.entries[k * len(self) // count] for k in range(count)])


def case_of(
    name: str,
    group: str,
    image: TrainingImage,
    masks: Sequence[Mask],
    *,
    path: str,
    spacing_mm: tuple[float, float] | None = None,
) -> Case:
    """Return an image with its masks.

    path: of the image, for messages. spacing_mm: overrides that of a DICOM image.

    Raises:
        DataError: the masks may not lie on the image.
    """
    check_pair(image, path, masks)
    return Case(
        name=name,
        group=group,
        image=image.source.pixels,
        masks=np.stack([mask.labels for mask in masks]),
        spacing_mm=spacing_mm or image.source.spacing_mm,
        value_range=image.source.value_range,
        warnings=image.source.warnings + tuple(warning for mask in masks for warning in mask.warnings),
    )


def read_case(name: str, group: str, files: Files, image: str, masks: Sequence[str]) -> Case:
    """Decode an image and its masks of one class.

    Raises:
        DataError: one of them cannot be decoded, or the masks may not lie on the image.
    """
    found = [read_mask(files[mask](), mask, 1) for mask in masks]
    return case_of(name, group, read_image(files[image](), image), found, path=image)
