"""What is asked of the model for one image."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Literal

from medseg_runtime.errors import ParameterError
from medseg_runtime.model.preprocess import Box
from medseg_runtime.result.stopping import MAX_SAMPLES

Samples = int | Literal["auto"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleRequest:
    """The arguments of a segmenter's call, besides the image. None stands for the bundle's default.

    Raises:
        ParameterError: a value has the wrong type or is out of range. Whether `region` and `center` are in the image is checked later.
    """

    samples: Samples = 16
    """N >= 1, or `auto`: draw until the confidence has converged (see `stopping`). Sample k is the same for every N."""
    steps: int | None = None
    """Denoiser calls per sample, >= 1."""
    seed: int = 0
    """>= 0. The same seed gives the same masks."""
    sampler: str | None = None
    """A name in `medseg_runtime.model.sampler.SAMPLERS`."""
    threshold: float = 0.5
    """Of the decoder's probability, in (0, 1). Not used with several classes, where the most likely class wins."""
    region: Box | None = None
    """Where to look, in image pixels. `medseg_runtime.model.preprocess` says how the bundle's input rule uses it."""
    center: tuple[float, float] | None = None
    """(x, y) in pixels from the image's corner, for a model that outlines what someone points at. Excludes `region`."""
    keep_masks: bool = True
    """False: count the masks and drop them, so that a thousand samples take the memory of sixty-four."""
    max_samples: int = MAX_SAMPLES
    """The most that `auto` draws: an even number, >= 2."""

    def __post_init__(self) -> None:
        self._check_types()
        if self.samples == "auto":
            if self.max_samples < 2 or self.max_samples % 2:
                raise ParameterError(
                    f"a limit of {self.max_samples} samples is out of range",
                    "Use an even number of 2 or more; 64 is usual.",
                )
        elif isinstance(self.samples, str):
            raise ParameterError(f"{self.samples!r} is not a number of samples", "Use a whole number, or auto.")
        elif self.samples < 1:
            raise ParameterError(f"{self.samples} samples is out of range", "Use 1 or more; 16 is usual.")
        if self.seed < 0:
            raise ParameterError(f"seed {self.seed} is negative", "Use 0 or more.")
        if not 0.0 < self.threshold < 1.0:
            raise ParameterError(
                f"threshold {self.threshold} is out of range", "Use a number between 0 and 1, for example 0.5."
            )

    def _check_types(self) -> None:
        whole = {"seed": self.seed, "max_samples": self.max_samples}
        whole |= {} if isinstance(self.samples, str) else {"samples": self.samples}
        whole |= {} if self.steps is None else {"steps": self.steps}
        for name, value in whole.items():
            if not isinstance(value, Integral) or isinstance(value, bool):
                raise ParameterError(f"{name}={value!r:.40} is not a whole number", "Use a whole number.")
        if not _is_number(self.threshold):
            raise ParameterError(f"threshold={self.threshold!r:.40} is not a number", "Use a number between 0 and 1.")
        point = tuple(self.center) if isinstance(self.center, Iterable) else ()
        if self.center is not None and not (len(point) == 2 and all(map(_is_number, point))):
            raise ParameterError(f"center={self.center!r:.40} is not a point", "Use center=(x, y), in pixels.")

    @property
    def limit(self) -> int:
        """Samples to draw, or the most that `auto` draws."""
        return self.max_samples if self.samples == "auto" else self.samples


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
