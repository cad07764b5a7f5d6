"""What a job is: asked for once, done once.

    received -> queued -> running -> sending -> done
        |          |         |          |
        +----------+---------+----------+-----> dead

received: its images are not all here. queued: they are. running: a worker has it. sending: its result is on disk.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Literal


class State(StrEnum):
    """Where a job is."""

    RECEIVED = "received"
    QUEUED = "queued"
    RUNNING = "running"
    SENDING = "sending"
    DONE = "done"
    DEAD = "dead"


OPEN = (State.RECEIVED, State.QUEUED, State.RUNNING, State.SENDING)
ENDED = (State.DONE, State.DEAD)


@dataclass(frozen=True, kw_only=True, slots=True)
class Caller:
    """Who asked for a job."""

    ae_title: str | None
    """Of a DICOM peer; None for HTTP and for rules."""
    address: str | None
    trace_id: str
    """32 hexadecimal digits, as in W3C Trace Context."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """What a job is to segment: a point in an image, a point in a series, or all images of a series."""

    origin: Literal["sr", "rest", "rule"]
    study: str
    series: str
    """Empty as long as it is not known: an SR may name the instance alone."""
    instance: str | None = None
    """The image with `center`."""
    frame: int | None = None
    """Of a multi-frame instance, counted from 1."""
    center: tuple[float, float] | None = None
    """x, y in pixels from the image's upper left corner."""
    center_mm: tuple[float, float, float] | None = None
    """x, y, z in patient coordinates."""
    reference_frame: str | None = None
    """Frame of Reference UID of `center_mm`; None for that of the series."""
    tracking_uid: str | None = None
    """Of the finding that an SR points at; the result carries it on."""
    trigger: str = ""
    """The SOP Instance UID of the SR that points, and the number of its finding."""
    fault: str = ""
    """Why the finding of an SR means no location; the job is then given up at once, so that somebody sees it."""

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Order:
        """Return the order that `asdict` wrote; JSON has no tuples."""
        fields: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}
        return cls(**fields)

    @property
    def id(self) -> str:
        """32 hexadecimal digits, the same for the same order."""
        content = json.dumps(asdict(self), sort_keys=True).encode()
        return hashlib.sha256(content).hexdigest()[:32]


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """An order and how far it is."""

    id: str
    order: Order
    caller: Caller
    state: State
    created: float
    """Seconds since 1970, as the other times."""
    changed: float
    not_before: float
    """When to try again."""
    attempts: int
    """Failed ones in this state."""
    crashes: int
    """Workers that it killed."""
    interruptions: int
    """How often the node was killed while it ran."""
    reason: dict[str, Any] | None
    """Of the last failure: error, problem and remedy."""
    outputs: dict[str, str] | None
    """DICOM file -> SHA-256, once there is a result."""
