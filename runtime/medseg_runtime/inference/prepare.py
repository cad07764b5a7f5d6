"""An image on its way into the network: read, placed, and brought to the field. It needs no engine, and may run ahead of one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

import numpy as np
import numpy.typing as npt

from medseg_runtime.errors import ParameterError
from medseg_runtime.inference.request import Request
from medseg_runtime.machine.memory import check_memory
from medseg_runtime.model.bundle import Manifest
from medseg_runtime.model.preprocess import Pixels, Placement, as_image, place, to_network
from medseg_runtime.readers.source import SourceImage

Float32 = npt.NDArray[np.float32]
Input = Pixels | SourceImage | str | PathLike[str]
"""What can be segmented: an array, what `medseg_runtime.readers.image` reads from a file, or a file's path."""

POINT_NEEDED = ("DICOM CT", "DICOM MR")
"""Kinds of image that are whole cross-sections of a patient, and not pictures of a finding."""


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

    placement: Placement
    field: Float32
    """(1, channels, height, width) in [0, 1]."""
    clock: Clock


def prepare(image: Input, manifest: Manifest, request: Request, *, at_once: int = 1) -> Prepared:
    """Bring an image to the network's field.

    at_once: images that are dealt with side by side, and share the memory.

    Raises:
        ImageError: the image cannot be read, or is not an image.
        ParameterError: its region or point does not fit it, or its masks do not fit into the memory.
    """
    if isinstance(image, (str, PathLike)):
        from medseg_runtime.readers.image import read_image  # arrays need neither Pillow's readers nor pydicom

        image = read_image(Path(image))
    source = image if isinstance(image, SourceImage) else None
    pixels = as_image(image.pixels if isinstance(image, SourceImage) else image)
    height, width = pixels.shape[:2]
    masks = request.limit if request.keep_masks else 0
    check_memory(masks, height * width * len(manifest.classes), at_once=at_once)

    clock = Clock()
    with clock("preprocess"):
        placement = place(pixels, manifest.input, request.region, request.center)
        if source is not None and request.region is None and request.center is None:
            _check_pointed_at(source, manifest)
        seen = to_network(pixels, manifest.input, placement, source.value_range if source else None)
    return Prepared(placement, seen, clock)


def _check_pointed_at(source: SourceImage, manifest: Manifest) -> None:
    """Refuse a whole CT or MR slice: its middle is not where a finding is, and empty masks would look like an answer."""
    rule, (height, width) = manifest.input, source.pixels.shape[:2]
    if rule.geometry == "native" and source.kind in POINT_NEEDED and max(height, width) > 2 * rule.context:
        what = " or ".join(manifest.classes)
        raise ParameterError(
            f"nobody points at anything in this {source.kind} image of {width}x{height} px: the model outlines a {what} "
            f"that someone points at, in {rule.width}x{rule.height} px around the point, and does not search",
            "Give --center X,Y or --center-mm X,Y,Z; in Python, center=(x, y).",
        )
