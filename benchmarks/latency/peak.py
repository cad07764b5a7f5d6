"""How fast can this machine multiply at all? The best of torch's matrix products, and the floor that follows from it."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from benchmarks.latency.timing import Run, in_turns

TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
ROUNDS = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Peak:
    """The fastest matrix product of one precision and number of threads."""

    precision: str
    threads: int
    side: int
    """Of the square matrices that were fastest."""
    gmacs_per_second: float

    def floor_ms(self, multiplications: int) -> float:
        """Return how long so many multiply-accumulates would take at the peak."""
        return multiplications / self.gmacs_per_second / 1e6


def product(precision: str, side: int) -> Run:
    """Return a call that multiplies two square matrices."""
    left, right = (torch.randn(side, side).to(TYPES[precision]) for _ in range(2))
    out = torch.empty(side, side, dtype=TYPES[precision])
    return lambda: torch.mm(left, right, out=out)


def find_peak(precision: str, threads: int, sides: tuple[int, ...]) -> Peak:
    """Try several sizes, and keep the one with the best median."""
    torch.set_num_threads(threads)
    runs = {str(side): product(precision, side) for side in sides}
    peaks = [peak_of(precision, threads, int(side), taken) for side, taken in in_turns(runs, ROUNDS).items()]
    return max(peaks, key=lambda peak: peak.gmacs_per_second)


def peak_of(precision: str, threads: int, side: int, milliseconds: list[float]) -> Peak:
    """Return the peak that timings of one product show, by their median."""
    middle = sorted(milliseconds)[len(milliseconds) // 2]
    return Peak(precision=precision, threads=threads, side=side, gmacs_per_second=side**3 / middle / 1e6)
