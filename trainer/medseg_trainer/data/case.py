"""One image with the masks of its raters, and the reading of such files."""

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
"""Path inside a data set, with forward slashes -> its reader."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One image with the masks of its raters."""

    name: str
    group: str
    """Patient, or video sequence: what a split and a bootstrap must not tear apart."""
    image: Pixels
    """(H, W) or (H, W, 3)."""
    masks: Labels
    """(R, H, W) labels, 0 background; a rater who marked nothing is an empty mask."""
    spacing_mm: tuple[float, float] | None = None
    """Distance of neighbouring rows and columns, where the data set tells."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A case that has not been decoded yet."""

    name: str
    group: str
    load: Callable[[], Case]


@dataclass(frozen=True, slots=True)
class Cases:
    """The cases of a split, in a fixed order; each is decoded when it is asked for, so that any number of them fits in memory."""

    entries: Sequence[Entry]

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[Case]:
        return (entry.load() for entry in self.entries)

    def __getitem__(self, index: int) -> Case:
        return self.entries[index].load()

    @property
    def names_sha256(self) -> str:
        """Which cases they are, and of whom."""
        lines = sorted(f"{entry.group}\t{entry.name}\n" for entry in self.entries)
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    @property
    def num_groups(self) -> int:
        """Patients, or video sequences."""
        return len({entry.group for entry in self.entries})

    def evenly(self, count: int | None) -> Cases:
        """Return `count` of them, evenly spaced; None, or more than there are: all."""
        if count is None or count >= len(self):
            return self
        return Cases([self.entries[k * len(self) // count] for k in range(count)])


def files_in_folder(root: Path) -> Files:
    """List a folder's files by their path in it; links lead where they point, but not round in circles."""
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
    """List the files of several zips as one tree."""
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
    """Decode an image file as (H, W) or (H, W, 3), with the reader that serves."""
    try:
        return read_raster(content, "").pixels
    except ImageError as error:
        raise DataError(f"{name}: {error.problem}", error.remedy) from error


def decode_mask(content: bytes, name: str, num_classes: int) -> Labels:
    """Decode a mask as labels (H, W).

    One class: above 127 is foreground, as published masks have soft edges; a file that holds only 0 and 1 is taken as such.
    Several: the pixel value is the class, 0 the background; of a palette image the index is, as in PASCAL VOC.
    """
    try:
        with Image.open(io.BytesIO(content)) as picture:
            mask = _mask_values(picture, num_classes)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{name} is not a mask that can be read", "Replace it by a whole PNG or TIFF file.") from error
    if mask.dtype.kind in "if" and not (np.isfinite(mask) & (mask >= 0) & (mask == np.trunc(mask))).all():
        raise DataError(
            f"{name} holds numbers that no label is: negative, fractional or none at all",
            "Write 0 for the background, and whole numbers.",
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
    """Decode an image and its mask of one class, given by their paths: (H, W) or (H, W, 3), and (H, W)."""
    pixels, labels = decode_image(files[image](), image), decode_mask(files[mask](), mask, 1)
    check_size(labels, mask, pixels)
    return pixels, labels


def check_size(labels: Labels, name: str, image: Pixels) -> None:
    """Refuse a mask of another size than its image."""
    if labels.shape != image.shape[:2]:
        raise DataError(
            f"{name} is {labels.shape[1]}x{labels.shape[0]} px, its image {image.shape[1]}x{image.shape[0]}",
            "Export the mask in the image's own size.",
        )


def _mask_values(picture: Image.Image, num_classes: int) -> npt.NDArray[Any]:
    """Return the values (H, W) that a mask's pixels hold; of colours the brightest channel, 0 where nothing covers the pixel."""
    if picture.mode in ("LA", "La", "PA", "RGBA", "RGBa"):
        values = np.asarray(picture.convert("RGBA"))
        return np.where(values[:, :, 3] > 127, values[:, :, :3].max(axis=2), 0)
    if picture.mode == "1":
        picture = picture.convert("L")
    elif picture.mode in ("CMYK", "YCbCr") or (picture.mode == "P" and num_classes == 1):
        picture = picture.convert("RGB")
    values = np.asarray(picture)
    return np.asarray(values.max(axis=2)) if values.ndim == 3 else values
