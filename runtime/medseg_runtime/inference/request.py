"""What is asked of a segmenter besides the image, and the check of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypedDict

from medseg_runtime.errors import ParameterError
from medseg_runtime.model.bundle import Manifest
from medseg_runtime.model.preprocess import Box
from medseg_runtime.model.sampler import SamplerTable, sampler_table
from medseg_runtime.result.stopping import MAX_SAMPLES

Samples = int | Literal["auto"]


class Options(TypedDict, total=False):
    """The arguments of `Segmenter.__call__` that are not the image; it explains them."""

    samples: Samples
    steps: int | None
    seed: int
    sampler: str | None
    threshold: float
    region: Box | None
    center: tuple[float, float] | None
    keep_masks: bool
    max_samples: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """A call's arguments, checked, with the bundle's defaults filled in."""

    limit: int
    """Samples to draw, or with `auto` the most of them."""
    auto: bool
    table: SamplerTable
    seed: int
    threshold: float
    region: Box | None
    center: tuple[float, float] | None
    keep_masks: bool


def request_of(
    manifest: Manifest,
    *,
    samples: Samples = 16,
    steps: int | None = None,
    seed: int = 0,
    sampler: str | None = None,
    threshold: float = 0.5,
    region: Box | None = None,
    center: tuple[float, float] | None = None,
    keep_masks: bool = True,
    max_samples: int = MAX_SAMPLES,
) -> Request:
    """Check a call's arguments; region and center are checked against the image, when it is there.

    Raises:
        ParameterError: one is out of range.
    """
    if seed < 0:
        raise ParameterError(f"seed {seed} is negative", "Use 0 or more.")
    if not 0.0 < threshold < 1.0:
        raise ParameterError(f"threshold {threshold} is out of range", "Use a number between 0 and 1, for example 0.5.")
    default = manifest.sampling
    return Request(
        limit=_limit(samples, max_samples),
        auto=samples == "auto",
        table=sampler_table(
            manifest.path,
            default.sampler if sampler is None else sampler,
            default.steps if steps is None else steps,
        ),
        seed=int(seed),  # a NumPy integer too, which JSON does not take
        threshold=float(threshold),
        region=region,
        center=center,
        keep_masks=keep_masks,
    )


def _limit(samples: Samples, max_samples: int) -> int:
    if samples == "auto":
        if max_samples < 2 or max_samples % 2:
            raise ParameterError(
                f"a limit of {max_samples} samples is out of range", "Use an even number of 2 or more; 64 is usual."
            )
        return max_samples
    if isinstance(samples, str):
        raise ParameterError(f"{samples!r} is no number of samples", "Use a whole number, or auto.")
    if samples < 1:
        raise ParameterError(f"{samples} samples is out of range", "Use 1 or more; 16 is usual.")
    return samples
