"""One image with the masks of its raters, and the reading of such files."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from medseg_runtime.errors import DataError
from medseg_runtime.imaging import Pixels

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


def files_in_folder(root: Path) -> Files:
    """List a folder's files by their path in it."""
    return {path.relative_to(root).as_posix(): path.read_bytes for path in sorted(root.rglob("*")) if path.is_file()}


def files_in_zips(archives: list[Path]) -> Files:
    """List the files of several zips as one tree."""
    files: Files = {}
    for archive in sorted(archives):
        try:
            opened = zipfile.ZipFile(archive)
        except (OSError, zipfile.BadZipFile) as error:
            raise DataError(f"{archive.name} cannot be opened: {error}", "Copy or download it again.") from error
        for name in sorted(opened.namelist()):
            files[name] = lambda opened=opened, name=name: opened.read(name)
    return files


def decode(content: bytes, name: str) -> npt.NDArray[Any]:
    """Decode an image file as (H, W) or (H, W, 3)."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            if image.mode in ("P", "RGBA", "CMYK", "PA", "YCbCr"):
                return np.asarray(image.convert("RGB"))
            return np.asarray(image.convert("L") if image.mode in ("1", "LA") else image)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{name} is not an image that can be read", "Replace it by a whole PNG, JPEG or TIFF file.") from error


def decode_mask(content: bytes, name: str, num_classes: int) -> Labels:
    """Decode a mask as labels (H, W).

    One class: above 127 is foreground, as published masks have soft edges; a file that holds only 0 and 1 is taken as such.
    Several: the pixel value is the class, 0 the background.
    """
    mask = decode(content, name)
    if mask.ndim == 3:
        mask = mask.max(axis=2)
    if num_classes == 1:
        return (mask > (127 if mask.max(initial=0) > 1 else 0)).astype(np.uint8)
    if mask.max(initial=0) > num_classes:
        raise DataError(
            f"{name} holds the value {int(mask.max())}, but there are {num_classes} classes",
            "Write the number of the class into each pixel, 0 for background.",
        )
    return mask.astype(np.uint8)
