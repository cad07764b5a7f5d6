"""Images with the masks of their raters, and decoding of their files."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from medseg_runtime.errors import DataError, ImageError
from medseg_runtime.model.preprocess import Pixels
from medseg_runtime.readers.raster import read_raster

Split = Literal["train", "val", "test"]
Labels = npt.NDArray[np.uint8]
Files = dict[str, Callable[[], bytes]]
"""Path in a data set, with forward slashes -> a function that reads the file."""


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
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    @property
    def num_groups(self) -> int:
        """Number of patients or video sequences."""
        return len({entry.group for entry in self.entries})

    def evenly(self, count: int | None) -> Cases:
        """Return `count` cases, evenly spaced; all if there are no more, or for None."""
        if count is None or count >= len(self):
            return self
        return Cases([self.entries[k * len(self) // count] for k in range(count)])


def files_in_folder(root: Path) -> Files:
    """Return the files of a folder. Links are followed, but a folder is visited once, so cycles end."""
    found, seen = list[Path](), set[Path]()
    for folder, folders, names in os.walk(root, followlinks=True):
        real = Path(folder).resolve()
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        found += [path for name in names if (path := Path(folder, name)).is_file()]
    return {path.relative_to(root).as_posix(): path.read_bytes for path in sorted(found)}


def files_in_zips(archives: list[Path]) -> Files:
    """Return the files of several zips as one tree.

    Raises:
        DataError: an archive is damaged; the reader of a damaged file raises it too.
    """
    files: Files = {}
    for archive in sorted(archives):
        with _readable(archive):
            opened = zipfile.ZipFile(archive)
        files |= {name: partial(_extracted, archive, opened, name) for name in sorted(opened.namelist())}
    return files


def _extracted(archive: Path, opened: zipfile.ZipFile, name: str) -> bytes:
    with _readable(archive):
        return opened.read(name)


@contextmanager
def _readable(archive: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{archive.name} cannot be read: {error}", "Copy or download it again.") from error


def decode_image(content: bytes, name: str) -> Pixels:
    """Decode an image file as (H, W) or (H, W, 3), with the reader that inference uses.

    Raises:
        DataError: it cannot be decoded.
    """
    try:
        return read_raster(content, "").pixels
    except ImageError as error:
        raise DataError(f"{name}: {error.problem}", error.remedy) from error


def decode_mask(content: bytes, name: str, num_classes: int) -> Labels:
    """Decode a mask as labels (H, W).

    One class: values above 127 are foreground, as published masks have soft edges; or all values are 0 and 1.
    Several classes: the pixel value is the class, 0 the background. In a palette image the index is the class, as in PASCAL VOC.

    Raises:
        DataError: the file is damaged, or holds values that are no labels.
    """
    try:
        with Image.open(io.BytesIO(content)) as picture:
            mask = _mask_values(picture, num_classes)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{name} is not a mask that can be read", "Replace it by a whole PNG or TIFF file.") from error
    if mask.dtype.kind in "if" and not (np.isfinite(mask) & (mask >= 0) & (mask == np.trunc(mask))).all():
        raise DataError(
            f"{name} holds values that are no labels: negative, fractional or not finite",
            "Write 0 for the background, and a whole number for each class.",
        )
    if num_classes == 1:
        brightest = int(mask.max(initial=0))
        if 1 < brightest <= 127:
            raise DataError(
                f"{name} is neither 0 / 255 nor 0 / 1: its highest value is {brightest}",
                "Write 255 where the structure is; for several classes give --classes.",
            )
        return (mask > (127 if brightest > 1 else 0)).astype(np.uint8)
    if mask.max(initial=0) > num_classes:
        raise DataError(
            f"{name} holds the value {int(mask.max())}, but there are {num_classes} classes",
            "Write the number of the class into each pixel, 0 for background.",
        )
    return mask.astype(np.uint8)


def read_pair(files: Files, image: str, mask: str) -> tuple[Pixels, Labels]:
    """Decode an image and its mask of one class: (H, W) or (H, W, 3), and (H, W).

    Raises:
        DataError: either cannot be decoded, or their sizes differ.
    """
    pixels, labels = decode_image(files[image](), image), decode_mask(files[mask](), mask, 1)
    check_size(labels, mask, pixels)
    return pixels, labels


def check_size(labels: Labels, name: str, image: Pixels) -> None:
    """Refuse a mask whose size is not that of its image.

    Raises:
        DataError: the sizes differ.
    """
    if labels.shape != image.shape[:2]:
        raise DataError(
            f"{name} is {labels.shape[1]}x{labels.shape[0]} px, its image {image.shape[1]}x{image.shape[0]}",
            "Export the mask in the size of the image.",
        )


def _mask_values(picture: Image.Image, num_classes: int) -> npt.NDArray[Any]:
    """Return the pixel values (H, W): of colors the brightest channel, of transparent pixels 0."""
    if picture.mode in ("LA", "La", "PA", "RGBA", "RGBa"):
        values = np.asarray(picture.convert("RGBA"))
        return np.where(values[:, :, 3] > 127, values[:, :, :3].max(axis=2), 0)
    if picture.mode == "1":
        picture = picture.convert("L")
    elif picture.mode in ("CMYK", "YCbCr") or (picture.mode == "P" and num_classes == 1):
        picture = picture.convert("RGB")
    values = np.asarray(picture)
    return np.asarray(values.max(axis=2)) if values.ndim == 3 else values
