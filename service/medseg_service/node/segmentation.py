"""What a worker does with a job: read its images, segment them, publish the result folder."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from medseg_runtime.errors import ImageError
from medseg_runtime.inference.segmenter import Segmenter
from medseg_runtime.readers.image import read_image
from medseg_runtime.readers.series import read_series
from medseg_runtime.readers.stack import Stack
from medseg_runtime.readers.target import Location, Target, read_target
from medseg_runtime.result.output_request import OutputRequest
from medseg_runtime.result.request import SampleRequest
from medseg_runtime.result.segmentation import Segmentation
from medseg_runtime.writers.folder import check_sources, write_result
from medseg_service.node.job import Order

ASKED = OutputRequest(dicom_seg=True, sr=True)
"""Of each image: what is sent."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """What the node keeps of a result."""

    outputs: dict[str, str]
    """DICOM file -> SHA-256."""
    empty: int
    """Images with an empty consensus."""
    images: int
    agreement: list[float]
    """Mean pairwise IoU of each image and class, where it is defined."""


def segment(
    order: Order, series: Path, out: Path, segmenter: Segmenter, request: SampleRequest, slices: int
) -> Summary:
    """Write the result of an order, whole or not at all.

    series: folder of the images. out: result folder; an older one is replaced.

    Raises:
        ImageError, ParameterError: the images cannot be read or segmented.
        OutputError: they cannot be referred to, or the disk is full.
    """
    outputs: dict[str, str] = {}
    found: list[Segmentation] = []
    targets = read_targets(order, series, slices)
    for number, target in enumerate(targets):
        folder = out / str(number) if len(targets) > 1 else out
        images = check_sources(target.images, ASKED)
        results = [segmenter.segment(image, replace(request, center=target.center)) for image in images]
        hashes = write_result(folder, results, ASKED, index=target.index, tracking_uid=order.tracking_uid, force=True)
        prefix = f"{number}/" if len(targets) > 1 else ""
        outputs |= {f"{prefix}{name}": sha256 for name, sha256 in hashes.items() if name.startswith("dicom/")}
        found += results
    return Summary(
        outputs=outputs,
        empty=sum(not result.consensus.any() for result in found),
        images=len(found),
        agreement=[float(v) for r in found for v in np.atleast_1d(r.mean_pairwise_iou) if math.isfinite(v)],
    )


def read_targets(order: Order, series: Path, slices: int) -> list[Target]:
    """Return the images of an order: one target, or without a point one for the stack or for each image.

    Raises:
        ImageError: they cannot be read.
        ParameterError: the point is in none of them.
    """
    if order.center_mm is not None:
        place = Location(center_mm=order.center_mm, reference_frame=order.reference_frame, slices=slices)
        return [read_target(series, place)]
    if order.instance is None:
        return _all_of(series)
    if slices == 1 or order.frame not in (None, 1):
        path = series / f"{order.instance}.dcm"
        return [read_target(path, Location(center=order.center, frame=order.frame, instance=order.instance))]
    return [read_target(series, Location(center=order.center, instance=order.instance, slices=slices))]


def _all_of(series: Path) -> list[Target]:
    """Return all slices of a stack together, or else each image by itself."""
    try:
        stack: Stack = read_series(series)
    except ImageError:
        paths = sorted(series.glob("*.dcm"))
        return [Target(images=(read_image(path),), index=0, center=None) for path in paths]
    return [Target(images=tuple(map(stack.read, range(len(stack)))), index=len(stack) // 2, center=None)]
