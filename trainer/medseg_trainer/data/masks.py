"""Masks of training images: file => labels (H, W).

One class: 0 and 255, or 0 and 1. Values above the half are foreground, because published masks have soft edges. Several classes: the
value is the number of the class, 0 the background. In a palette image the index is the class, as in PASCAL VOC.

An instance map, or classes as grey levels, given for one class would lose the labels below the half in silence. It is refused.
Values in between are soft edges if they are near an edge, and if no area of 3x3 pixels has one of them. Values close to 0 or to the
highest are noise: CVC-ClinicDB's masks hold areas of 9 to 23. The lowest of all are numbers of labels, unless the compression is lossy.

Files whose meaning nobody can know are refused: a TIFF in which 0 is white, a drawing of which only the opacity or only the color is
the mask, and a palette of several classes in an order of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import maximum_filter, minimum_filter

from medseg_runtime.errors import DataError, ImageError
from medseg_runtime.readers.image import is_dicom
from medseg_runtime.readers.raster.image import Raster, decode
from medseg_runtime.readers.source import READABLE

Labels = npt.NDArray[np.uint8]
Bool = npt.NDArray[np.bool_]
Numbers = npt.NDArray[Any]

EDGE = 8
"""Pixels on either side of an edge in which it may be soft: an 8x8 block of a JPEG."""
MOST_EDGES = 0.5
"""Largest share of an image that soft edges take."""
NOISE = 32
"""Values not farther from 0 or from the highest are noise ..."""
LABELS = 8
"""... but areas up to this value are numbered labels."""
BORDER = 0.9
"""A mask that covers more than this share of the border, and more than half of the image, may be inverted."""
INVERTED = "a mask marks the border and most of its image: see whether background and structure are swapped"
NO_BACKGROUND = "a mask of several classes has no pixel of the background, which is 0"
ONE_CLASS = (
    "Write 255 where the structure is and 0 elsewhere; for several classes number them from 1 and give --classes."
)


@dataclass(frozen=True, slots=True)
class Mask:
    """One rater's mask."""

    name: str
    labels: Labels
    """(H, W), 0 for background, in the grid of the stored pixels."""
    orientation: int
    """EXIF or TIFF, 1 to 8: how a viewer turns it."""
    warnings: tuple[str, ...] = ()
    """How it was read, one sentence each."""


def read_mask(content: bytes, name: str, num_classes: int) -> Mask:
    """Decode a mask with the reader that images go through.

    Raises:
        DataError: the file is damaged or of another format, or holds values that are no labels.
    """
    raster = _decoded(content, name)
    if num_classes > 1:
        numbers = _numbered(raster, name, num_classes)
        warnings = raster.warnings + (NO_BACKGROUND,) * bool(numbers.all())
        return Mask(name, numbers.astype(np.uint8), raster.orientation, warnings)
    marked, warnings = _marked(raster, name)
    return Mask(name, marked.astype(np.uint8), raster.orientation, raster.warnings + warnings)


def decode_mask(content: bytes, name: str, num_classes: int) -> Labels:
    """Decode a mask as labels (H, W); see `read_mask`."""
    return read_mask(content, name, num_classes).labels


def _decoded(content: bytes, name: str) -> Raster:
    if is_dicom(content):
        raise DataError(
            f"{name} is a DICOM object, and masks are pictures",
            "Write it as a PNG in the size of its image: 255 where the structure is and 0 elsewhere.",
        )
    try:
        raster = decode(content)
    except ImageError as error:
        remedy = "Replace it by a whole PNG or TIFF file." if error.remedy == READABLE else error.remedy
        raise DataError(f"{name} is not a mask that can be read: {error.problem}", remedy) from error
    if raster.white_is_zero:
        raise DataError(
            f"{name} is a TIFF in which 0 is white, and some programs write masks so without meaning it",
            "If viewers show the structure white, run `mogrify -format png` on it; if black, `mogrify -negate -format png`. "
            "Then remove the TIFF.",
        )
    return raster


def _numbered(raster: Raster, name: str, num_classes: int) -> Numbers:
    """Return the numbers of several classes."""
    if raster.lossy:
        raise DataError(
            f"{name} is compressed with loss, which changes the numbers of classes", "Save it as PNG or TIFF."
        )
    _check_palette(raster, name)
    values = _opaque(raster.values if raster.indices is None else raster.indices, raster, name)
    if values.ndim == 3:
        if (values != values[:, :, :1]).any():
            raise DataError(
                f"{name} holds colors, which are no numbers of classes",
                "Write the number of the class into each pixel, 0 for background.",
            )
        values = values[:, :, 0]
    _check_numbers(values, name)
    if values.max(initial=0) > num_classes:
        raise DataError(
            f"{name} holds the value {int(values.max())}, but there are {num_classes} classes",
            "Write the number of the class into each pixel, 0 for background.",
        )
    return values


def _check_palette(raster: Raster, name: str) -> None:
    """Refuse a palette in which another entry than the first looks like the background, as programs that sort colors write it."""
    if raster.indices is None:
        return
    black = ~raster.values.any(axis=-1) if raster.values.ndim == 3 else raster.values == 0
    if (black & (raster.indices > 0)).any() and (~black & (raster.indices == 0)).any():
        raise DataError(
            f"{name} has a palette whose first color is not black while another is, so its indices may be no numbers of classes",
            "Save it without a palette, with the number of the class in each pixel, 0 for background.",
        )


def _marked(raster: Raster, name: str) -> tuple[Bool, tuple[str, ...]]:
    """Return the foreground of one class, and warnings."""
    values = _opaque(raster.values, raster, name)
    levels = values.max(axis=2) if values.ndim == 3 else values
    _check_numbers(levels, name)
    highest = int(levels.max(initial=0))
    if (1 < highest <= 127) or (highest == 1 and raster.lossy):
        raise DataError(f"{name} is neither 0 / 255 nor 0 / 1: its highest value is {highest}", ONE_CLASS)
    marked: Bool = levels > (0 if highest <= 1 else 127 if highest <= 255 else highest // 2)
    inverted = _note_inverted(marked)
    if highest <= 1:
        return marked, inverted
    between: Bool = (levels > NOISE) & (levels < highest - NOISE)
    if between.any() and (between.mean() > MOST_EDGES or (between & ~_near_edge(marked)).any()):
        raise DataError(
            f"{name} holds values between 0 and {highest} away from any edge, so it is no mask of one class", ONE_CLASS
        )
    return marked, inverted + (() if raster.lossy else _check_areas(values, levels, highest, name))


def _note_inverted(marked: Bool) -> tuple[str, ...]:
    """Return a warning if a mask covers what is background in most images."""
    border = np.concatenate([marked[0], marked[-1], marked[:, 0], marked[:, -1]])
    return (INVERTED,) if border.mean() > BORDER and marked.mean() > 0.5 else ()


def _opaque(values: Numbers, raster: Raster, name: str) -> Numbers:
    """Make transparent pixels background: a drawing program saves a mask as the opacity of a layer."""
    alpha = raster.alpha
    if alpha is None:
        return values
    opaque = alpha > np.iinfo(alpha.dtype.type).max // 2
    kept = np.where(opaque if values.ndim == 2 else opaque[:, :, None], values, values.dtype.type(0))
    if not kept.any() and ((values != values[0, 0]).any() or (alpha != alpha[0, 0]).any()):
        raise DataError(
            f"{name} is transparent in parts, and black where it is opaque, so its opacity or its color may be the mask",
            "Save it without transparency. " + ONE_CLASS,
        )
    return kept


def _check_numbers(values: Numbers, name: str) -> None:
    if values.dtype.kind in "if" and not (np.isfinite(values) & (values >= 0) & (values == np.trunc(values))).all():
        raise DataError(
            f"{name} holds values that are no labels: negative, fractional or not finite",
            "Write 0 for the background, and a whole number for each class.",
        )


def _check_areas(values: Numbers, levels: Numbers, highest: int, name: str) -> tuple[str, ...]:
    """Refuse areas of a third value: a mask of one class has background and foreground. Return warnings.

    values: (H, W) or (H, W, 3). levels: (H, W), their brightest channel.
    """
    found = np.unique(values[_flat(values) & (levels > 0)], axis=0)
    level = found.max(axis=1) if found.ndim == 2 else found
    labels = found[(level <= LABELS) | ((level > NOISE) & (level < highest - NOISE))]
    bright = found[level >= highest - NOISE].astype(np.int64)
    if len(bright) and np.ptp(bright, axis=0).max() > NOISE:  # two colors
        labels = bright
    if len(labels):
        shown = ", ".join(str(value.tolist()) for value in labels[:3])
        raise DataError(
            f"{name} holds areas of the value {shown}{' ...' * (len(labels) > 3)} beside {highest}, as labels of several "
            "classes or objects have",
            ONE_CLASS,
        )
    noise = level[level <= NOISE]
    if len(noise):
        return (f"areas of a mask with values of {LABELS + 1} to {NOISE} were taken for background",)
    return ()


def _flat(values: Numbers) -> Bool:
    """Return the pixels that all their eight neighbors are equal to."""
    height, width = values.shape[:2]
    padded = np.pad(values, ((1, 1), (1, 1), *((0, 0),) * (values.ndim - 2)), mode="edge")
    flat = np.ones((height, width), bool)
    for down in range(3):
        for right in range(3):
            same = padded[down : down + height, right : right + width] == values
            flat &= same.all(axis=2) if values.ndim == 3 else same
    return flat


def _near_edge(marked: Bool) -> Bool:
    """Return the pixels that have both background and foreground within `EDGE` pixels."""
    size = 2 * EDGE + 1
    return np.asarray(maximum_filter(marked, size) & ~minimum_filter(marked, size))
