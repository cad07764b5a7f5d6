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
from threading import Condition, Thread, current_thread
from typing import Any, Generic, TypeVar, cast
from weakref import WeakSet

from medseg_runtime.errors import MedsegError

Item = TypeVar("Item")
Value = TypeVar("Value")

ITEM_ERRORS = (MedsegError, MemoryError)
"""Errors of one item. Any other exception is a defect and stops all."""
SOURCE_SECONDS = 1.0
"""How long closing waits for a thread that has asked `items` for the next item."""


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

    Where the system allows fewer threads, fewer are used; where it allows none, the caller's.

    Closing or dropping the generator joins the threads after their current items. It does not wait for `items`: a thread that waits
    in it for the next item is left after `SOURCE_SECONDS`, ends when that comes or fails, and drops it. A defect, or an error that
    `items` itself raises, is raised here after the outcomes before it.
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
        self._items, self._taker = iter(items), cast("Thread | None", None)
        self._ahead = ahead
        self._changed = Condition()
        self._waiting: dict[int, Outcome[Item, Value] | BaseException] = {}
        self._started = self._yielded = 0
        self._ended = self._closed = False
        self._threads: list[Thread] = []
        self._without_threads: Callable[[Item], Value] | None = None

    def start(self, workers: Sequence[Callable[[Item], Value]]) -> None:
        """Start one thread for each worker, or as many as the system allows."""
        for worker in workers:
            thread = Thread(target=self.serve, args=(worker,), name="medseg-worker", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # can't start new thread
                break
            self._threads.append(thread)
        if not self._threads:
            self._without_threads = workers[0]

    def serve(self, worker: Callable[[Item], Value]) -> None:
        """Process items until there are none, or the pool is closed."""
        while self._serve_next(worker):
            pass

    def _serve_next(self, worker: Callable[[Item], Value]) -> bool:
        """Process the next item; False if there is none."""
        taken = self._take()
        if taken is None:
            return False
        number, item = taken
        try:
            outcome: Outcome[Item, Value] | BaseException = Outcome(item, worker(item))
        except ITEM_ERRORS as error:
            outcome = Outcome(item, None, error)
            _drop_frames(error)
        except BaseException as error:  # noqa: BLE001 - raised in the caller's thread
            outcome = error
        self._put(number, outcome)
        return True

    def outcomes(self) -> Generator[Outcome[Item, Value], None, None]:
        """Yield the outcomes in order; raise defects."""
        while True:
            if self._without_threads is not None:
                self._serve_next(self._without_threads)
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
        """Start no more items, and join the threads, but not one that waits for the source of the items."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            taker = self._taker
        for thread in self._threads:
            thread.join(SOURCE_SECONDS if thread is taker else None)

    def _take(self) -> tuple[int, Item] | None:
        """Return the next item and its number, once it may be started; None if there is none."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._ended or (self._taker is None and self._has_room()))
            if self._closed or self._ended:
                return None
            self._taker = current_thread()
        try:
            item = next(self._items)
        except StopIteration:
            self._finish(None)
            return None
        except BaseException as error:  # noqa: BLE001 - as above
            self._finish(error)
            return None
        with self._changed:
            self._taker = None
            self._changed.notify_all()
            if self._closed:
                return None
            self._started += 1
            return self._started - 1, item

    def _has_room(self) -> bool:
        return self._started - self._yielded < self._ahead

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
            self._ended, self._taker = True, None
            self._changed.notify_all()


def _drop_frames(error: BaseException | None) -> None:
    """Drop the local variables of an error's traceback, so that keeping the error does not keep the image in memory."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
