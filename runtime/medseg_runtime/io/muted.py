"""Warnings of the libraries that read images stay inside: their text may quote a file, and a caller has filters of its own."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_ONE_AT_A_TIME = threading.RLock()


@contextmanager
def warnings_muted() -> Iterator[None]:
    """Ignore all warnings inside the block.

    One thread at a time: Python's filters are everybody's, and two threads that set and restore them by turns would leave behind
    those of the block.
    """
    with _ONE_AT_A_TIME, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
