r"""Process several items at once in worker threads, and return the outcomes in order.

    items --> worker 0: read, compute, write --+
          \-> worker 1: read, compute, write --+--> the caller, in the order of the items

While one worker computes, another reads or writes. Backends that are given one thread per call compute side by side.
An item that fails with an error of ours becomes an outcome with that error, in its place; the others go on.
"""

from __future__ import annotations

import atexit
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from threading import Condition, Lock, Thread
from typing import Any, Generic, TypeVar, cast
from weakref import WeakSet

from medseg_runtime.errors import MedsegError

Item = TypeVar("Item")
Value = TypeVar("Value")

ITEM_ERRORS = (MedsegError, MemoryError)
"""Errors of one item. Any other exception is a defect and stops all."""


@dataclass(frozen=True, slots=True)
class Outcome(Generic[Item, Value]):
    """The result or the error of one item."""

    item: Item
    """As given."""
    value: Value | None
    """The result, or None if it failed."""
    error: Exception | None = None
    """A MedsegError or a MemoryError, or None."""

    def result(self) -> Value:
        """Return the value, or raise the error."""
        if self.error is not None:
            raise self.error
        return cast("Value", self.value)


def run_workers(
    items: Iterable[Item], workers: Sequence[Callable[[Item], Value]], *, ahead: int
) -> Generator[Outcome[Item, Value], None, None]:
    """Yield the outcome of each item, in order.

    items: advanced in the worker threads, one at a time.
    workers: one function for each thread, one or more.
    ahead: >= 1, the number of items that may be started before the caller takes their outcomes.

    Closing or dropping the generator joins the threads after their current items. A defect, or an error that `items` itself
    raises, is raised here after the outcomes before it.
    """
    pool: _Pool[Item, Value] = _Pool(items, ahead)
    _join_at_exit()
    _OPEN.add(pool)
    pool.start(workers)
    try:
        yield from pool.outcomes()
    finally:
        pool.close()


_OPEN: WeakSet[_Pool[Any, Any]] = WeakSet()
"""Pools to join at exit."""


@cache
def _join_at_exit() -> None:
    """Join workers at exit: killing native code aborts Python."""
    atexit.register(_close_all)


def _close_all() -> None:
    for pool in list(_OPEN):
        pool.close()


class Turns:
    """Let workers do something in the order of their items: `with turns.ended(k), done_in_order(), turns.awaited(k): ...`."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._next = 0

    @contextmanager
    def awaited(self, number: int) -> Iterator[None]:
        """At the end of the block, however it ends, wait until all earlier items have ended."""
        try:
            yield
        finally:
            with self._changed:
                self._changed.wait_for(lambda: self._next == number)

    @contextmanager
    def ended(self, number: int) -> Iterator[None]:
        """At the end of the block, give the next item its turn."""
        try:
            yield
        finally:
            with self._changed:
                self._next = number + 1
                self._changed.notify_all()


class _Pool(Generic[Item, Value]):
    """What workers and caller share: the items, and the outcomes not yet taken."""

    def __init__(self, items: Iterable[Item], ahead: int) -> None:
        self._items, self._taking = iter(items), Lock()
        self._ahead = ahead
        self._changed = Condition()
        self._waiting: dict[int, Outcome[Item, Value] | BaseException] = {}
        self._started = self._yielded = 0
        self._ended = self._closed = False
        self._threads: list[Thread] = []

    def start(self, workers: Sequence[Callable[[Item], Value]]) -> None:
        """Start one thread for each worker."""
        self._threads = [Thread(target=self.serve, args=(each,), name="medseg-worker", daemon=True) for each in workers]
        for thread in self._threads:
            thread.start()

    def serve(self, worker: Callable[[Item], Value]) -> None:
        """Process items until there are none, or the pool is closed."""
        while (taken := self._take()) is not None:
            number, item = taken
            try:
                outcome: Outcome[Item, Value] | BaseException = Outcome(item, worker(item))
            except ITEM_ERRORS as error:
                outcome = Outcome(item, None, error)
                _drop_frames(error)
            except BaseException as error:  # noqa: BLE001 - raised in the caller's thread
                outcome = error
            self._put(number, outcome)

    def outcomes(self) -> Generator[Outcome[Item, Value], None, None]:
        """Yield the outcomes in order; raise defects."""
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._yielded in self._waiting or (self._ended and self._yielded == self._started)
                )
                if self._yielded not in self._waiting:
                    return
                outcome = self._waiting.pop(self._yielded)
                self._yielded += 1
                self._changed.notify_all()
            if isinstance(outcome, BaseException):
                raise outcome
            yield outcome

    def close(self) -> None:
        """Start no more items, and join the threads."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _take(self) -> tuple[int, Item] | None:
        """Return the next item and its number, once it may be started; None if there is none."""
        with self._taking:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._started - self._yielded < self._ahead)
                if self._closed or self._ended:
                    return None
            try:
                item = next(self._items)
            except StopIteration:
                self._finish(None)
                return None
            except BaseException as error:  # noqa: BLE001 - as above
                self._finish(error)
                return None
            with self._changed:
                self._started += 1
                return self._started - 1, item

    def _put(self, number: int, outcome: Outcome[Item, Value] | BaseException) -> None:
        with self._changed:
            self._waiting[number] = outcome
            self._changed.notify_all()

    def _finish(self, error: BaseException | None) -> None:
        """Record that there are no more items, and the error that `items` raised, if any."""
        with self._changed:
            if error is not None:
                self._waiting[self._started] = error
                self._started += 1
            self._ended = True
            self._changed.notify_all()


def _drop_frames(error: BaseException | None) -> None:
    """Drop the local variables of an error's traceback, so that keeping the error does not keep the image in memory."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
