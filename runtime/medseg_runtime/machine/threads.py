"""Threads per call, and calls that run side by side."""

from __future__ import annotations

import os

MOST_AT_ONCE = 4
"""Most calls side by side: each needs its own memory."""


def calls_at_once(threads: int | None) -> int:
    """Return how many calls of this number of threads run side by side on this CPU. None: one call uses all threads."""
    return 1 if threads is None else max(1, min(num_processors() // threads, MOST_AT_ONCE))


def threads_for(images: int) -> int | None:
    """Return the number of CPU threads per call for this many images; None: all of them.

    One image uses all threads. Several images finish sooner side by side, with fewer threads each.
    """
    side_by_side = min(images, num_processors(), MOST_AT_ONCE)
    return None if side_by_side <= 1 else num_processors() // side_by_side


def num_processors() -> int:
    """Return how many CPU cores this process may use."""
    return len(os.sched_getaffinity(0))
