"""Compare a method with float32 torch, then time it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from benchmarks.gpu.methods import Method, Sample
from benchmarks.gpu.subjects import Subject
from medseg_runtime.backends.base import Float32
from medseg_runtime.result.accumulator import foreground_probability

TOLERANCE = {"float32": 1e-3, "float16": 0.02, "bfloat16": 0.05}
"""Largest accepted difference of the mean probability map."""
DIFFERENT_PIXELS = {"float32": 1e-3, "float16": 0.01, "bfloat16": 0.03}
"""Largest accepted share of mask pixels that differ."""
CELL_SECONDS, MIN_CALLS, MAX_CALLS = 1.0, 5, 200
PEAK_SIDE = {"cuda": 8192, "cpu": 512}
TYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One method at one size: timings, or the reason why there are none."""

    method: str
    precision: str
    side: int
    samples: int
    steps: int
    error: float | None = None
    """Largest difference of the mean probability map from float32 torch."""
    milliseconds: tuple[float, ...] = ()
    flops: int = 0
    missing: str | None = None
    """Reason why the cell was not timed."""

    @property
    def p50(self) -> float:
        """Median time in milliseconds."""
        return float(np.median(self.milliseconds))

    @property
    def teraflops(self) -> float:
        """Achieved TFLOP/s, by the median."""
        return self.flops / self.p50 / 1e9


def measure(
    subject: Subject, method: Method, reference: Method, samples: int, steps: int, has_time: Callable[[], bool]
) -> Cell:
    """Compare a method with the reference at one size, then time it from image and noise on the host to masks on the host.

    has_time: returns False once the time of the run is up.
    """
    named = {
        "method": method.name,
        "precision": method.precision,
        "side": subject.side,
        "samples": samples,
        "steps": steps,
    }
    if not has_time():
        return Cell(**named, missing="not run: out of time")  # type: ignore[arg-type]  # names and types are Cell's
    image, noise = subject.inputs(samples)
    expected = reference.prepare(samples, steps)(image, noise)
    sample = method.prepare(samples, steps)
    error, different = difference(sample(image, noise), expected)
    if error > TOLERANCE[method.precision] or different > DIFFERENT_PIXELS[method.precision]:
        missing = f"wrong: mean probability off by {error:.1e}, {different:.2%} of pixels differ; not timed"
        return Cell(**named, error=error, missing=missing)  # type: ignore[arg-type]
    taken = time_it(sample, image, noise)
    return Cell(**named, error=error, milliseconds=taken, flops=subject.flops(samples, steps))  # type: ignore[arg-type]


def difference(found: Float32, expected: Float32) -> tuple[float, float]:
    """Return the largest difference of the mean probability maps, and the share of mask pixels that differ."""
    left, right = foreground_probability(found), foreground_probability(expected)
    error = float(np.abs(left.mean(axis=0) - right.mean(axis=0)).max())
    return error if np.isfinite(found).all() else float("inf"), float(np.mean((left > 0.5) != (right > 0.5)))


def time_it(sample: Sample, image: Float32, noise: Float32) -> tuple[float, ...]:
    """Time successive calls for about a second, in milliseconds. A call ends with masks, not logits."""
    for _ in range(3):  # warm-up: captures graphs and selects kernels
        sample(image, noise)
    taken: list[float] = []
    end = time.perf_counter() + CELL_SECONDS
    while len(taken) < MIN_CALLS or (len(taken) < MAX_CALLS and time.perf_counter() < end):
        start = time.perf_counter()
        np.greater(sample(image, noise), 0.0)
        taken.append(1e3 * (time.perf_counter() - start))
    return tuple(taken)


def peak_teraflops(device: torch.device, precision: str) -> float:
    """Return the speed of the fastest of ten square matrix products."""
    side = PEAK_SIDE[device.type]
    left, right = (torch.randn(side, side, device=device).to(TYPES[precision]) for _ in range(2))
    best = float("inf")
    for _ in range(10):
        _wait(device)
        start = time.perf_counter()
        torch.mm(left, right)
        _wait(device)
        best = min(best, time.perf_counter() - start)
    return 2 * side**3 / best / 1e12


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
