"""Ignore warnings of image libraries, whose text may quote a file, without touching the caller's filters."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast


class _Silence:
    """A warning filter that matches only in threads that are inside a block.

    `warnings.catch_warnings` is not thread-safe: it saves and restores the filters of the whole process. If a caller uses it meanwhile,
    it may restore this filter after the block; outside of blocks the filter matches nothing.
    """

    def __init__(self) -> None:
        self._here, self._lock, self._blocks = threading.local(), threading.Lock(), 0
        self._entry = ("ignore", self, Warning, None, 0)

    def match(self, _text: str) -> bool:
        """Tell whether the filter matches. `warnings` calls this as the method of a regular expression."""
        return getattr(self._here, "blocks", 0) > 0

    def begin(self) -> None:
        with self._lock:
            self._remove()
            _filters().insert(0, self._entry)  # before filters that the caller has added meanwhile
            self._blocks += 1
        self._here.blocks = getattr(self._here, "blocks", 0) + 1

    def end(self) -> None:
        self._here.blocks -= 1
        with self._lock:
            self._blocks -= 1
            if not self._blocks:
                self._remove()

    def _remove(self) -> None:
        filters = _filters()
        while self._entry in filters:
            filters.remove(self._entry)


_SILENCE = _Silence()


@contextmanager
def warnings_muted() -> Iterator[None]:
    """Ignore all warnings of this thread inside the block. Warnings of other threads are not affected."""
    _SILENCE.begin()
    try:
        yield
    finally:
        _SILENCE.end()


def _filters() -> list[Any]:
    return cast("list[Any]", warnings.filters)
