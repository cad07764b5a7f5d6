"""Two stages of work, each in a thread of its own, with the caller as the third: reading, computing and writing overlap.

    items --read--> channel --compute--> channel --> the caller      in order, and at most `ahead` wait in each channel

An item whose reading or computing fails with an error of ours comes out as that error, in its place, and the others go on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from threading import Condition, Thread
from typing import Generic, TypeVar, cast

from medseg_runtime.errors import MedsegError

Item = TypeVar("Item")
Read = TypeVar("Read")
Value = TypeVar("Value")
Message = TypeVar("Message")

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


def pipeline(
    items: Iterable[Item], read: Callable[[Item], Read], compute: Callable[[Read], Value], *, ahead: int
) -> Generator[Outcome[Item, Value], None, None]:
    """Yield compute(read(item)) of each item, in order.

    items: advanced in the reading thread, at most `ahead` items before they are computed.
    ahead: >= 1, how many may wait before each stage.

    Closing the generator, or dropping it, ends both threads when what they are at is done. An error that is not of one item,
    or is raised by `items` itself, is raised here after the outcomes before it.
    """
    unread = (Outcome(item, item) for item in items)
    fields: Channel[Outcome[Item, Read]] = Channel(ahead)
    outcomes: Channel[Outcome[Item, Value]] = Channel(ahead)
    threads = [
        Thread(target=_stage, args=(unread, read, fields), name="medseg-read", daemon=True),
        Thread(target=_stage, args=(fields, compute, outcomes), name="medseg-compute", daemon=True),
    ]
    for thread in threads:
        thread.start()
    try:
        yield from outcomes
    finally:
        fields.close()
        outcomes.close()
        for thread in threads:
            thread.join()


class Channel(Generic[Message]):
    """A bounded queue between two threads that either end can shut."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._waiting: deque[Message] = deque()
        self._changed = Condition()
        self._ended = self._closed = False
        self._error: BaseException | None = None

    def put(self, message: Message) -> bool:
        """Wait for room and add a message; return False where nobody takes messages any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._waiting) < self._capacity)
            if not self._closed:
                self._waiting.append(message)
                self._changed.notify_all()
            return not self._closed

    def __iter__(self) -> Iterator[Message]:
        """Yield messages until the sender ends or this end is closed; then raise what ended the sender, if anything did."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._ended or self._waiting)
                if self._closed:
                    return
                if not self._waiting:
                    break
                message = self._waiting.popleft()
                self._changed.notify_all()
            yield message
        if self._error is not None:
            raise self._error

    def end(self, error: BaseException | None) -> None:
        """Tell the receiver that no more comes, and why."""
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify_all()

    def close(self) -> None:
        """Tell the sender that nobody takes messages any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


def _stage(
    source: Iterable[Outcome[Item, Read]], work: Callable[[Read], Value], sink: Channel[Outcome[Item, Value]]
) -> None:
    """Work on one message after the other, until the source ends or the sink is closed."""
    error: BaseException | None = None
    try:
        for outcome in source:
            if not sink.put(_worked_on(outcome, work)):
                break
    except BaseException as caught:  # noqa: BLE001 - the thread that asked for the work is told, and this one ends
        error = caught
    sink.end(error)


def _worked_on(outcome: Outcome[Item, Read], work: Callable[[Read], Value]) -> Outcome[Item, Value]:
    if outcome.error is not None:
        return Outcome(outcome.item, None, outcome.error)
    try:
        return Outcome(outcome.item, work(outcome.result()))
    except OF_ONE_ITEM as error:
        return Outcome(outcome.item, None, error)
