"""Measure the segmentations of neighbouring slices together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from medseg_runtime.errors import ParameterError
from medseg_runtime.result.measurements import Measurements, measured
from medseg_runtime.result.segmentation import Segmentation


def measure(segmentations: Sequence[Segmentation]) -> tuple[Measurements, ...]:
    """Measure one image, or neighbouring slices of a series in their order, with their volume: one `Measurements` per class.

    Sample k of every slice is the same hypothesis, since it starts from the same noise: together they are one finding. A slice stands
    for half the way to its neighbours. Give slices enough that the first and the last are empty, or the volume is of a part.

    Raises:
        ParameterError: there is none, they differ in bundle, number of samples, seed, sampler, steps or threshold, or masks were not kept.
        ImageError: the slices are not parallel, or not in the order of their positions.
    """
    if not segmentations:
        raise ParameterError("there is no segmentation to measure", "Give at least one.")
    if len({hypotheses(each) for each in segmentations}) > 1:
        raise ParameterError(
            "the segmentations differ in bundle, number of samples, seed, sampler, steps or threshold",
            "Segment all slices with the same request.",
        )
    return measured([each.measured_slice() for each in segmentations], segmentations[0].classes)


@dataclass(frozen=True, kw_only=True, slots=True)
class Hypotheses:
    """All that must be equal for sample k of two results to be the same hypothesis."""

    bundle_sha256: str
    classes: tuple[str, ...]
    samples: int
    seed: int
    sampler: str
    steps: int
    threshold: float

    def differing(self, other: Hypotheses) -> list[str]:
        """Return the names of what differs from another."""
        return [each.name for each in fields(self) if getattr(self, each.name) != getattr(other, each.name)]


def hypotheses(segmentation: Segmentation) -> Hypotheses:
    """Return what the samples of a segmentation are made from."""
    return Hypotheses(
        bundle_sha256=segmentation.provenance.bundle_sha256,
        classes=segmentation.classes,
        samples=segmentation.samples,
        seed=segmentation.request.seed,
        sampler=segmentation.sampler,
        steps=segmentation.steps,
        threshold=segmentation.request.threshold,
    )
