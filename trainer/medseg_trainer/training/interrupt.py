"""Ctrl-C between two optimiser steps."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console


@contextmanager
def interrupt_between_steps(console: Console) -> Iterator[Callable[[], bool]]:
    """Delay Ctrl-C to the end of a step, because the state within a step cannot be resumed from.

    Yields a function that tells whether Ctrl-C was pressed. Pressed twice, it interrupts at once.
    """
    pressed = False

    def handle(_signal: int, _frame: object) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True
        console.print("stopping after this step; Ctrl-C again stops at once, without saving", highlight=False)

    if threading.current_thread() is not threading.main_thread():  # signals arrive in the main thread only
        yield lambda: False
        return
    before = signal.signal(signal.SIGINT, handle)
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, before)
