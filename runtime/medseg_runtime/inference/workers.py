r"""Several images at once: each lane is a thread that takes one item after another from start to end, and results come in order.

    items --> lane 0: read, compute, write --+
          \-> lane 1: read, compute, write --+--> the caller, in the order of the items

While one lane computes another reads or writes, and engines that are given one thread per call compute side by side.
An item that fails with an error of ours comes out as that error, in its place, and the others go on.
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

OF_ONE_ITEM = (MedsegError, MemoryError)
"""What is wrong with one item and not with the program."""


@dataclass(frozen=True, slots=True)
class Outcome(Generic[Item, Value]):
    """What became of one item."""

    item: Item
    """As it was given."""
    value: Value | None
    """What was made of it; None where that failed."""
    error: Exception | None = None
    """A MedsegError or a MemoryError, or None."""

    def result(self) -> Value:
        """Return what was made of the item, or raise what went wrong with it."""
        if self.error is not None:
            raise self.error
        return cast("Value", self.value)


def run_workers(
    items: Iterable[Item], lanes: Sequence[Callable[[Item], Value]], *, ahead: int
) -> Generator[Outcome[Item, Value], None, None]:
    """Yield what became of each item, in order.

    items: advanced in the lanes' threads, one at a time.
    lanes: what each thread does with an item; one or more.
    ahead: >= 1, how many items may be begun that the caller has not taken yet.

    Closing the generator, or dropping it, ends the threads when what they are at is done. An error that is not of one item,
    or is raised by `items` itself, is raised here after the outcomes before it.
    """
    shared: _Shared[Item, Value] = _Shared(items, ahead)
    _end_with_the_program()
    _OPEN.add(shared)
    shared.start(lanes)
    try:
        yield from shared.outcomes()
    finally:
        shared.end()


_OPEN: WeakSet[_Shared[Any, Any]] = WeakSet()
"""Lanes that may have to be ended with the program."""


@cache
def _end_with_the_program() -> None:
    """End what a program leaves open before Python ends: it would stop the threads in the midst of C++, and C++ the process."""
    atexit.register(_end_all)


def _end_all() -> None:
    for shared in list(_OPEN):
        shared.end()


class Turns:
    """Lets lanes do one thing in the order of their items: `with turns.ended(k), its_end_in_turn(), turns.awaited(k): ...`."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._next = 0

    @contextmanager
    def awaited(self, number: int) -> Iterator[None]:
        """Wait, at the end of the block and however it ends, until all items before this one have ended."""
        try:
            yield
        finally:
            with self._changed:
                self._changed.wait_for(lambda: self._next == number)

    @contextmanager
    def ended(self, number: int) -> Iterator[None]:
        """Let the next item have its turn when the block ends."""
        try:
            yield
        finally:
            with self._changed:
                self._next = number + 1
                self._changed.notify_all()


class _Shared(Generic[Item, Value]):
    """What the lanes and the caller share: the items, and the outcomes that wait to be taken."""

    def __init__(self, items: Iterable[Item], ahead: int) -> None:
        self._items, self._taking = iter(items), Lock()
        self._ahead = ahead
        self._changed = Condition()
        self._waiting: dict[int, Outcome[Item, Value] | BaseException] = {}
        self._begun = self._yielded = 0
        self._ended = self._closed = False
        self._threads: list[Thread] = []

    def start(self, lanes: Sequence[Callable[[Item], Value]]) -> None:
        """Let each lane work in a thread."""
        self._threads = [Thread(target=self.serve, args=(lane,), name="medseg-lane", daemon=True) for lane in lanes]
        for thread in self._threads:
            thread.start()

    def serve(self, lane: Callable[[Item], Value]) -> None:
        """Work on one item after the other, until there is none or nobody wants more."""
        while (taken := self._take()) is not None:
            number, item = taken
            try:
                outcome: Outcome[Item, Value] | BaseException = Outcome(item, lane(item))
            except OF_ONE_ITEM as error:
                outcome = Outcome(item, None, error)
                _forget_values(error)
            except BaseException as error:  # noqa: BLE001 - the thread that asked for the work is told
                outcome = error
            self._put(number, outcome)

    def outcomes(self) -> Generator[Outcome[Item, Value], None, None]:
        """Yield the outcomes in order; raise what was no outcome."""
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._yielded in self._waiting or (self._ended and self._yielded == self._begun)
                )
                if self._yielded not in self._waiting:
                    return
                outcome = self._waiting.pop(self._yielded)
                self._yielded += 1
                self._changed.notify_all()
            if isinstance(outcome, BaseException):
                raise outcome
            yield outcome

    def end(self) -> None:
        """Let the lanes begin nothing more, and wait until they have ended."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _take(self) -> tuple[int, Item] | None:
        """Return the next item and its number, once it may be begun; None if there is none."""
        with self._taking:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._begun - self._yielded < self._ahead)
                if self._closed or self._ended:
                    return None
            try:
                item = next(self._items)
            except StopIteration:
                self._end(None)
                return None
            except BaseException as error:  # noqa: BLE001 - as above
                self._end(error)
                return None
            with self._changed:
                self._begun += 1
                return self._begun - 1, item

    def _put(self, number: int, outcome: Outcome[Item, Value] | BaseException) -> None:
        with self._changed:
            self._waiting[number] = outcome
            self._changed.notify_all()

    def _end(self, error: BaseException | None) -> None:
        """Say that there are no more items, and why."""
        with self._changed:
            if error is not None:
                self._waiting[self._begun] = error
                self._begun += 1
            self._ended = True
            self._changed.notify_all()


def _forget_values(error: BaseException | None) -> None:
    """Drop the variables of where an error was raised: a caller who keeps it need not keep the file that was read there."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
