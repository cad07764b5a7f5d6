"""Warnings of the libraries that read images stay inside: their text may quote a file, and a caller has filters of its own."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast


class _Silence:
    """A filter that holds in the threads that are inside a block, and in no other.

    `warnings.catch_warnings` puts filters aside that are everybody's: of two threads that do so by turns, one finds what the other left.
    A caller who does so meanwhile keeps this one, which then never holds.
    """

    def __init__(self) -> None:
        self._here, self._lock, self._blocks = threading.local(), threading.Lock(), 0
        self._entry = ("ignore", self, Warning, None, 0)

    def match(self, _text: str) -> bool:
        """Tell `warnings`, which takes this for a regular expression, whether the filter holds."""
        return getattr(self._here, "blocks", 0) > 0

    def begin(self) -> None:
        with self._lock:
            self._remove()
            _filters().insert(0, self._entry)  # before those that a caller has set meanwhile
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
    """Ignore all warnings of this thread inside the block; those of others go where they would."""
    _SILENCE.begin()
    try:
        yield
    finally:
        _SILENCE.end()


def _filters() -> list[Any]:
    return cast("list[Any]", warnings.filters)
