"""Bring an image to the network's grid, and masks back to the image's.

A bundle names one of two geometry rules and one of two intensity rules. The trainer uses these functions too.

    resize   the region (default: the whole image) is resampled to the field; masks are resampled back
    native   pixels are kept: the field around the region's center (default: the image's center) goes through the network, and masks
             are put back there. A `context` x `context` window around the same center fixes the intensity scale

Intensities become [0, 1]: `minmax` scales by the extremes of the context or region, `unit` by a range that does not depend on the
image's content. That range is, for a grey DICOM image, its window in modality values or else the range of the stored bits; for color,
0 to the highest stored value; for other integers, 0 to the highest of their type; for floats, 0 to 1.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from medseg_runtime.errors import ImageError, ParameterError

Float32 = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8 | np.uint16 | np.int16 | np.int32 | np.float32 | np.float64]
Scalar = TypeVar("Scalar", bound=np.generic)

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


@dataclass(frozen=True, kw_only=True, slots=True)
class Box:
    """A rectangle in image pixels. It may extend beyond the image."""

    x: int
    y: int
    width: int
    height: int

    def __post_init__(self) -> None:
        for side in ("x", "y", "width", "height"):  # converts NumPy integers, which JSON does not accept
            object.__setattr__(self, side, operator.index(getattr(self, side)))

    @classmethod
    def around(cls, x: float, y: float, width: int, height: int) -> Box:
        """Return the box of a size whose center is nearest to the point (x, y); (0, 0) is the first pixel's corner."""
        return cls(x=round(x - width / 2), y=round(y - height / 2), width=width, height=height)

    @property
    def center(self) -> tuple[float, float]:
        """The center, (x, y) in pixels from the image's upper left corner."""
        return self.x + self.width / 2, self.y + self.height / 2

    def clipped(self, height: int, width: int) -> Box:
        """Return the part inside an image of (height, width)."""
        x, y = max(self.x, 0), max(self.y, 0)
        right, bottom = min(self.x + self.width, width), min(self.y + self.height, height)
        return Box(x=x, y=y, width=max(right - x, 0), height=max(bottom - y, 0))


@dataclass(frozen=True, kw_only=True, slots=True)
class InputRule:
    """How an image of any size becomes the network's input."""

    channels: Literal[1, 3]
    height: int
    """Rows of the field that the network sees."""
    width: int
    geometry: Literal["resize", "native"]
    intensity: Literal["minmax", "unit"]
    context: int = 0
    """Side in pixels of the window that fixes the intensity scale; `native` only."""

    def __post_init__(self) -> None:
        if self.geometry == "native" and self.context < max(self.height, self.width):
            raise ParameterError(
                f"a context of {self.context} px is smaller than the {self.width}x{self.height} field",
                "Make the context at least as large as the field.",
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Placement:
    """The position of the field in an image, to bring masks back."""

    image_height: int
    image_width: int
    field: Box
    pointed_at: bool = False
    """Whether a region or point was given; otherwise the field is at the image's center."""

    @property
    def seen(self) -> Box:
        """The part of the field inside the image."""
        return self.field.clipped(self.image_height, self.image_width)


def as_image(pixels: Pixels) -> Pixels:
    """Check an array and return it as (H, W), or (H, W, 3) RGB; integers or finite floats; at least 2x2. (H, W, 1) becomes (H, W).

    Raises:
        ImageError: another shape or type, NaN or infinite values.
    """
    array = np.asarray(pixels)
    if array.dtype == np.bool_:
        array = np.uint8(255) * array
    if array.dtype.kind not in "uif":
        raise ImageError(f"an array of type {array.dtype} is not an image", "Pass integers or floats.")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 3):
        raise ImageError(f"an array of shape {array.shape} is not an image", _shape_remedy(array.shape))
    if min(array.shape[:2]) < 2:
        raise ImageError(f"an image of {array.shape[1]}x{array.shape[0]} px is too small", "Pass at least 2x2 pixels.")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ImageError("the image holds NaN or infinite values", "Replace them, for example with the lowest value.")
    return array


def _shape_remedy(shape: tuple[int, ...]) -> str:
    match shape:
        case (_,):
            return "Pass (H, W) grey or (H, W, 3) RGB pixels; if these are the bytes of a file, pixels.tobytes()."
        case (1, _, _):
            return "Pass (H, W) grey or (H, W, 3) RGB pixels: here pixels[0]."
        case (3, _, _):
            return "Pass (H, W) grey or (H, W, 3) RGB pixels, channels last: here pixels.transpose(1, 2, 0)."
        case (_, _, 4):
            return "Pass (H, W) grey or (H, W, 3) RGB pixels: composite the fourth channel, if it is alpha, on a background."
    return "Pass (H, W) grey or (H, W, 3) RGB pixels, one image at a time."


def _with_channels(pixels: Pixels, channels: int) -> npt.NDArray[np.float64]:
    """(H, W) or (H, W, 3) => (H, W, channels): color becomes luma, grey is repeated."""
    values = pixels.astype(np.float64)
    if values.ndim == 3 and channels == 1:
        return np.asarray(values @ np.array(LUMA), np.float64)[:, :, None]
    if values.ndim == 2:
        return np.repeat(values[:, :, None], channels, axis=2)
    return values


def resample(image: Float32, height: int, width: int) -> Float32:
    """Resample (H, W) float32 to (height, width): bilinear, antialiased when it shrinks."""
    if image.shape == (height, width):
        return image
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR), np.float32)


def _cut(values: npt.NDArray[np.float64], box: Box) -> npt.NDArray[np.float64]:
    """Crop a box from (H, W, C); beyond the image its edge is repeated."""
    rows = np.clip(np.arange(box.y, box.y + box.height), 0, values.shape[0] - 1)
    columns = np.clip(np.arange(box.x, box.x + box.width), 0, values.shape[1] - 1)
    return values[rows[:, None], columns[None, :]]


OVERSHOOT = 1e-3
"""Largest distance of a value from [0, 1] that counts as rounding."""


def _scaled(
    values: npt.NDArray[np.float64],
    reference: npt.NDArray[np.float64],
    rule: InputRule,
    value_range: tuple[float, float],
) -> Float32:
    """Scale intensities to [0, 1]; to 0 if the reference is constant."""
    if rule.intensity == "unit":
        low, high = value_range
    else:
        low, high = float(reference.min()), float(reference.max())
    span = high - low
    if not span > 0:
        return np.zeros(values.shape, np.float32)
    return np.clip((values - low) / span, 0.0, 1.0).astype(np.float32)


def place(pixels: Pixels, rule: InputRule, region: Box | None, center: tuple[float, float] | None = None) -> Placement:
    """Return the position of the field in the image.

    region: the part to segment. center: (x, y) in pixels from the image's upper left corner, instead of a region; `native` only.

    Raises:
        ParameterError: the region is empty or extends beyond the image, the point is outside, both are given, or a point is
            given and the rule is `resize`, which needs a size.
    """
    height, width = pixels.shape[:2]
    whole = Box(x=0, y=0, width=width, height=height)
    if center is not None:
        if region is not None:
            raise ParameterError("a region and a point exclude each other", "Give one of them.")
        if rule.geometry == "resize":
            raise ParameterError(
                "this model segments a whole region, and a point has no size",
                "Give the region: --roi X,Y,W,H.",
            )
        if not (0 <= center[0] <= width and 0 <= center[1] <= height):  # true of NaN too
            raise ParameterError(
                f"the point {center[0]:g},{center[1]:g} is not inside the {width}x{height} image",
                "Give X,Y in pixels from the image's upper left corner.",
            )
        field = Box.around(*center, rule.width, rule.height)
        return Placement(image_height=height, image_width=width, field=field, pointed_at=True)
    if region is not None and (region.clipped(height, width) != region or min(region.width, region.height) < 1):
        raise ParameterError(
            f"the region {region.x},{region.y},{region.width},{region.height} is not inside the {width}x{height} image",
            "Give X,Y,W,H in pixels, with X + W and Y + H at most the image's width and height.",
        )
    seen = region or whole
    field = Box.around(*seen.center, rule.width, rule.height) if rule.geometry == "native" else seen
    return Placement(image_height=height, image_width=width, field=field, pointed_at=region is not None)


def to_network(
    pixels: Pixels, rule: InputRule, placement: Placement, value_range: tuple[float, float] | None = None
) -> Float32:
    """Image => network input: (H, W) or (H, W, 3) => (1, channels, height, width) float32 in [0, 1].

    value_range: the intensities that `unit` maps to 0 and 1; by default the range of the pixels' type, 0 to 1 for floats.

    Raises:
        ImageError: floats are not in [0, 1], and the rule `unit` has no range.
    """
    if value_range is None:
        dtype: np.dtype = pixels.dtype
        if (
            rule.intensity == "unit"
            and dtype.kind == "f"
            and not -OVERSHOOT <= pixels.min() <= pixels.max() <= 1 + OVERSHOOT
        ):
            raise ImageError(
                f"the image holds floating-point numbers from {pixels.min():.3g} to {pixels.max():.3g}, and the model takes them from 0 to 1",
                "Scale them, or give integers, which are divided by the largest of their type.",
            )
        if rule.intensity == "unit" and dtype.kind in "ui" and dtype.itemsize > 2:
            raise ImageError(
                f"the image holds integers of type {dtype}, and the model takes them from 0 to the largest of a type of 8 or 16 bits",
                "Convert them to uint8 or uint16, or to floats from 0 to 1.",
            )
        value_range = (0.0, float(np.iinfo(dtype).max) if dtype.kind in "ui" else 1.0)
    values = _with_channels(pixels, rule.channels)
    field = _cut(values, placement.field)
    if rule.geometry == "native":
        context = Box.around(*placement.field.center, rule.context, rule.context)
        inside = context.clipped(placement.image_height, placement.image_width)
        reference = _cut(values, inside)
    else:
        reference = field
    scaled = _scaled(field, reference, rule, value_range)
    channels = [resample(np.ascontiguousarray(scaled[:, :, c]), rule.height, rule.width) for c in range(rule.channels)]
    return np.stack(channels)[None]


def to_seen(maps: Float32, placement: Placement) -> Float32:
    """Network grid => image pixels, for the part of the field inside the image: (N, h, w) => (N, rows, columns)."""
    field, seen = placement.field, placement.seen
    if maps.shape[1:] != (field.height, field.width):
        maps = np.stack([resample(m, field.height, field.width) for m in maps])
    top, left = seen.y - field.y, seen.x - field.x
    return maps[:, top : top + seen.height, left : left + seen.width]


def paste(seen: npt.NDArray[Scalar], placement: Placement) -> npt.NDArray[Scalar]:
    """Put the field's part into the image's grid: (..., rows, columns) => (..., H, W), zero or False elsewhere."""
    box = placement.seen
    whole = np.zeros((*seen.shape[:-2], placement.image_height, placement.image_width), seen.dtype)
    whole[..., box.y : box.y + box.height, box.x : box.x + box.width] = seen
    return whole
