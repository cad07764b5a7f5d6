"""Read an image, place the field in it and scale its intensities. This needs no backend and may run ahead of one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeAlias, cast

import numpy as np
import numpy.typing as npt

from medseg_runtime.errors import ParameterError
from medseg_runtime.machine.memory import check_memory
from medseg_runtime.model.bundle import Manifest
from medseg_runtime.model.preprocess import Pixels, Placement, as_image, place, to_network
from medseg_runtime.readers.content import Readable, is_readable
from medseg_runtime.readers.source import SourceImage
from medseg_runtime.result.request import SampleRequest

Float32 = npt.NDArray[np.float32]
Input: TypeAlias = "Pixels | SourceImage | Readable"
"""What can be segmented: an array, a `SourceImage` from a reader, a file's path, its bytes, a binary file, or a pydicom `Dataset`."""

NEEDS_POINT = ("DICOM CT", "DICOM MR")
"""Kinds of image that are whole cross-sections of a patient, not pictures of a finding."""


@dataclass(slots=True)
class Clock:
    """Sums wall time per stage."""

    milliseconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.milliseconds[stage] = self.milliseconds.get(stage, 0.0) + 1e3 * (time.perf_counter() - start)


@dataclass(frozen=True, slots=True)
class Prepared:
    """An image as the network takes it."""

    source: SourceImage
    placement: Placement
    field: Float32
    """(1, channels, height, width) in [0, 1]."""
    clock: Clock


def prepare(image: Input, manifest: Manifest, request: SampleRequest, *, images_at_once: int = 1) -> Prepared:
    """Bring an image to the network's field.

    images_at_once: images in progress side by side, which share the memory.

    Raises:
        ImageError: the image cannot be read, or is not an image.
        ParameterError: its region or center does not fit it, or its masks do not fit into memory.
    """
    source = _source(image)
    pixels = as_image(source.pixels)
    height, width = pixels.shape[:2]
    masks = request.limit if request.keep_masks else 0
    check_memory(masks, height * width * len(manifest.classes), at_once=images_at_once)

    clock = Clock()
    with clock("preprocess"):
        placement = place(pixels, manifest.input, request.region, request.center)
        if request.region is None and request.center is None:
            _check_has_point(source, manifest)
        seen = to_network(pixels, manifest.input, placement, source.value_range)
    return Prepared(source, placement, seen, clock)


def _source(image: Input) -> SourceImage:
    if isinstance(image, SourceImage):
        return image
    if is_readable(image):
        from medseg_runtime.readers.image import read_image  # arrays need neither Pillow's readers nor pydicom

        return read_image(cast("Readable", image))
    return SourceImage.from_array(cast("Pixels", image))


def _check_has_point(source: SourceImage, manifest: Manifest) -> None:
    """Refuse a whole CT or MR slice without a point: its center is not where a finding is, and empty masks would look like an answer."""
    rule, (height, width) = manifest.input, source.pixels.shape[:2]
    is_section = source.kind in NEEDS_POINT or source.volume is not None
    if rule.geometry == "native" and is_section and max(height, width) > 2 * rule.context:
        what = " or ".join(manifest.classes)
        raise ParameterError(
            f"this model needs a point in this {source.kind} image of {width}x{height} px: it outlines the {what} at the point, "
            f"within {rule.width}x{rule.height} px, and does not search",
            "Give --center X,Y or --center-mm X,Y,Z; in Python, center=(x, y).",
        )
