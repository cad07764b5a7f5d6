"""Let a block clean up when the process is told to end."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

SIGNALS = (signal.SIGTERM, signal.SIGHUP)
"""Python ends at once on these. It turns SIGINT into an exception by itself."""


class Terminated(BaseException):
    """The process was told to end."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(signal.Signals(number).name)


@contextmanager
def cleaning_up() -> Iterator[None]:
    """Raise `Terminated` in the block on SIGTERM and SIGHUP. Then end by the signal, as without this.

    A signal that the program handles itself stays with it. Only the main thread may handle signals: in others nothing changes.
    """
    ours = [number for number in SIGNALS if signal.getsignal(number) is signal.SIG_DFL]
    if threading.current_thread() is not threading.main_thread():
        ours = []
    for number in ours:
        signal.signal(number, _raise)
    try:
        yield
    except Terminated as told:
        _restore(ours)
        signal.raise_signal(told.number)
        raise
    finally:
        _restore(ours)


def _raise(number: int, _: FrameType | None) -> NoReturn:
    raise Terminated(number)


def _restore(numbers: list[signal.Signals]) -> None:
    for number in numbers:
        signal.signal(number, signal.SIG_DFL)
