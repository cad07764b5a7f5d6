"""Compare backends on synthetic fields: their time, and how far their masks are from the reference's."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from medseg_runtime.backends.base import Backend, Float32
from medseg_runtime.errors import BackendError
from medseg_runtime.machine.shortage import names_shortage
from medseg_runtime.model.bundle import Manifest, Precision
from medseg_runtime.model.preprocess import InputRule
from medseg_runtime.model.sampler import sampler_table, time_features
from medseg_runtime.result.accumulator import binarise, foreground_probability

SAMPLES = 16
MAX_STEPS = 10
"""Most steps of a trial, because the first run waits for it."""
RADII = (0.08, 0.15, 0.3)
"""Radii of the discs on the synthetic fields, as fractions of the shorter side. One round for each."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Largest allowed difference from the reference."""

    probability: float
    """Largest absolute difference of the mean probability map."""
    dice: float
    """Smallest Dice of all masks together."""


TOLERANCES: dict[Precision, Tolerance] = {
    "float32": Tolerance(1e-4, 0.999),
    "bfloat16": Tolerance(0.02, 0.99),
    "float16": Tolerance(0.02, 0.99),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """The time and masks of one backend in one precision."""

    backend: str
    precision: Precision
    milliseconds: float
    """Median time of one image with `SAMPLES` samples."""
    probability: float
    """Largest absolute difference of the mean probability map from the reference's."""
    dice: float
    """Dice of all masks of all fields with the reference's."""

    def passes(self) -> bool:
        """Tell whether the masks are within the tolerance."""
        allowed = TOLERANCES[self.precision]
        return self.probability <= allowed.probability and self.dice >= allowed.dice


@dataclass(slots=True)
class _Runs:
    """Times and logits of one backend."""

    backend: Backend
    seconds: list[float] = field(default_factory=list)
    logits: list[Float32] = field(default_factory=list)
    """(N, K, H, W) of each field."""


def run_trials(backends: Sequence[Backend], manifest: Manifest) -> list[Trial]:
    """Run all backends in turns, so that other load on the machine affects them alike.

    backends: the reference first. Others that fail are left out.

    Raises:
        BackendError: the reference failed, or another for want of threads or memory.
    """
    runs = [_Runs(backend) for backend in backends]
    _run_all(runs, manifest, RADII[0], steps=1)  # compiles and warms up
    for each in runs:
        each.seconds, each.logits = [], []
    for radius in RADII:
        _run_all(runs, manifest, radius, steps=MAX_STEPS)
    return [_trial(each, runs[0].logits) for each in runs]


def _run_all(runs: list[_Runs], manifest: Manifest, radius: float, *, steps: int) -> None:
    image = synthetic_field(manifest.input, radius)
    for each in list(runs):
        start = time.perf_counter()
        try:
            each.logits.append(_draw(each.backend, manifest, image, steps))
        except BackendError as error:
            if each is runs[0] or names_shortage(error):
                raise
            runs.remove(each)
        each.seconds.append(time.perf_counter() - start)


def _draw(backend: Backend, manifest: Manifest, image: Float32, steps: int) -> Float32:
    """Field (1, C, H, W) => logits (N, K, H, W) with the bundle's sampler, in its own number of steps but at most `steps`."""
    noise = np.random.RandomState(0)
    table = sampler_table(manifest.path, manifest.sampling.sampler, min(steps, manifest.sampling.steps))

    def fresh() -> Float32:
        return noise.standard_normal((SAMPLES, *manifest.latent)).astype(np.float32)

    features = time_features(table.t, manifest.time_features)
    return backend.decode(backend.denoise(backend.encode(image), fresh(), table, features, fresh))


def synthetic_field(rule: InputRule, radius: float) -> Float32:
    """Return a soft disc on a noisy background, (1, C, H, W) in [0, 1]; radius: a fraction of the shorter side."""
    y, x = np.mgrid[: rule.height, : rule.width]
    distance = np.hypot(y - rule.height / 2, x - rule.width / 2) / min(rule.height, rule.width) - radius
    disc = 0.5 - 0.5 * np.tanh(20.0 * distance)
    noise = np.random.RandomState(0).standard_normal((1, rule.channels, rule.height, rule.width))
    image: Float32 = np.clip(0.2 + 0.6 * disc + 0.05 * noise, 0.0, 1.0).astype(np.float32)
    return image


def _trial(runs: _Runs, reference: Sequence[Float32]) -> Trial:
    probability, dice = compared(runs.logits, reference)
    return Trial(
        backend=runs.backend.name,
        precision=runs.backend.precision,
        milliseconds=1e3 * statistics.median(runs.seconds),
        probability=probability,
        dice=dice,
    )


def compared(logits: Sequence[Float32], reference: Sequence[Float32]) -> tuple[float, float]:
    """Return the largest absolute difference of the mean probability maps, and the Dice of all masks together (1 if all are empty).

    logits, reference: one (N, K, H, W) per field.
    """
    found, expected = (np.stack([foreground_probability(each) for each in fields]) for fields in (logits, reference))
    one, other = (np.stack([binarise(each, 0.5) for each in fields]) for fields in (found, expected))
    size = np.count_nonzero(one) + np.count_nonzero(other)
    dice = 2.0 * np.count_nonzero(one & other) / size if size else 1.0
    return float(np.abs(found.mean(axis=1) - expected.mean(axis=1)).max()), dice
