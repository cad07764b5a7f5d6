"""Timings: what is kept of them, and taking them in turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Run = Callable[[], object]

WARMED_BELOW_S = 1.0
"""A contender faster than this is called once untimed before each timed call: the one before it has emptied the caches."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """What is kept of repeated timings, in milliseconds."""

    n: int
    min: float
    p50: float
    p90: float
    p95: float

    @classmethod
    def of(cls, milliseconds: Sequence[float]) -> Timing:
        """Summarise timings in milliseconds, at least one."""
        p50, p90, p95 = (float(value) for value in np.percentile(milliseconds, (50, 90, 95)))
        return cls(n=len(milliseconds), min=min(milliseconds), p50=p50, p90=p90, p95=p95)


@dataclass(frozen=True, kw_only=True, slots=True)
class Ratio:
    """How many times as long one contender took as another."""

    p50: float
    """Ratio of the medians."""
    low: float
    high: float
    """10th and 90th percentile of the ratios within a round: how far it moves from one round to the next."""

    @classmethod
    def of(cls, slow: Sequence[float], fast: Sequence[float]) -> Ratio:
        """Compare timings of the same rounds, in the same order."""
        low, high = np.percentile(np.divide(slow, fast), (10, 90))
        return cls(p50=statistics.median(slow) / statistics.median(fast), low=float(low), high=float(high))


def milliseconds_of(run: Run) -> float:
    """Time one call."""
    start = time.perf_counter()
    run()
    return 1e3 * (time.perf_counter() - start)


def in_turns(runs: Mapping[str, Run], rounds: int, say: Callable[[str], None] | None = None) -> dict[str, list[float]]:
    """Time every contender once a round, so that whatever the machine does strikes all of them.

    Each round starts with another contender. Returns name => milliseconds, one per round.
    say: called after each round.
    """
    names = list(runs)
    first = {name: milliseconds_of(run) for name, run in runs.items()}  # allocates and compiles; not kept
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
