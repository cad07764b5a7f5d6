"""Time calls in turns, and summarise timings."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.common.tables import format_ms

Run = Callable[[], object]

WARMED_BELOW_S = 1.0
"""A faster contender gets an untimed call before each timed one, because the previous contender has filled the caches."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """Summary of repeated timings, in milliseconds."""

    n: int
    min: float
    p50: float
    p90: float
    p95: float

    @classmethod
    def of(cls, milliseconds: Sequence[float]) -> Timing:
        """Summarise one or more timings in milliseconds."""
        p50, p90, p95 = (float(value) for value in np.percentile(milliseconds, (50, 90, 95)))
        return cls(n=len(milliseconds), min=min(milliseconds), p50=p50, p90=p90, p95=p95)

    def cells(self) -> tuple[str, str, str, str, str]:
        """Return n, min, p50, p90 and p95 as cells of a table."""
        return str(self.n), *(format_ms(value) for value in (self.min, self.p50, self.p90, self.p95))  # type: ignore[return-value]


@dataclass(frozen=True, kw_only=True, slots=True)
class Ratio:
    """Time of one contender over that of another."""

    p50: float
    """Ratio of the medians."""
    low: float
    high: float
    """10th and 90th percentile of the ratios within a round."""

    @classmethod
    def of(cls, slow: Sequence[float], fast: Sequence[float]) -> Ratio:
        """Compare two contenders' timings of the same rounds."""
        low, high = np.percentile(np.divide(slow, fast), (10, 90))
        return cls(p50=statistics.median(slow) / statistics.median(fast), low=float(low), high=float(high))


def milliseconds_of(run: Run) -> float:
    """Time one call."""
    start = time.perf_counter()
    run()
    return 1e3 * (time.perf_counter() - start)


def in_turns(runs: Mapping[str, Run], rounds: int, say: Callable[[str], None] | None = None) -> dict[str, list[float]]:
    """Time every contender once per round, so that disturbances affect all of them.

    Each round starts with another contender. say: called with a line after each round.

    Returns: name => milliseconds, one per round.
    """
    names = list(runs)
    first = {name: milliseconds_of(run) for name, run in runs.items()}  # warm-up: allocates and compiles
    taken: dict[str, list[float]] = {name: [] for name in names}
    for index in range(rounds):
        start = index % len(names)
        for name in names[start:] + names[:start]:
            if first[name] < 1e3 * WARMED_BELOW_S:
                runs[name]()
            taken[name].append(milliseconds_of(runs[name]))
        if say is not None:
            say(f"         round {index + 1} of {rounds}")
    return taken
