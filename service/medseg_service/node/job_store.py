"""All jobs, on disk. Every change is one transaction, so that a kill finds a job before or after it."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from medseg_service.errors import QueueFullError
from medseg_service.node.database import Database
from medseg_service.node.job import ENDED, OPEN, Caller, Job, Order, State

LONGEST_WAIT_S = 600.0
"""Before another attempt."""


class JobStore:
    """The jobs of a node."""

    def __init__(self, database: Database, *, limit: int) -> None:
        """Take a database. limit: open jobs at once."""
        self._database = database
        self._limit = limit

    def submit(self, order: Order, caller: Caller) -> tuple[Job, bool]:
        """Keep an order, and return its job, and whether there is something to do.

        An open job stays as it is. One that has ended is done again: its objects get the same UIDs.

        Raises:
            QueueFullError: as many jobs are open as are allowed.
        """
        with self._database.transaction() as connection:
            return self.submit_in(connection, order, caller)

    def submit_in(self, connection: sqlite3.Connection, order: Order, caller: Caller) -> tuple[Job, bool]:
        """Do the same in a transaction of the caller's."""
        found = _one(connection, order.id)
        if found is not None and found.state in OPEN:
            if found.state is State.SENDING and order.origin == "rule":  # an image came that the result lacks
                connection.execute("UPDATE jobs SET state = ? WHERE id = ?", (State.RECEIVED, found.id))
            return found, False
        if _count(connection, OPEN) >= self._limit:
            raise QueueFullError(f"{self._limit} jobs are open", "Send it again later.")
        now = time.time()
        connection.execute(
            "INSERT OR REPLACE INTO jobs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0, 0, NULL, NULL)",
            (
                order.id, json.dumps(asdict(order)), json.dumps(asdict(caller)), State.RECEIVED, order.study, order.series,
                now, now, now,
            ),
        )  # fmt: skip
        made = _one(connection, order.id)
        assert made is not None
        return made, True

    def get(self, job_id: str) -> Job | None:
        """Return a job, or None."""
        with self._database.transaction() as connection:
            return _one(connection, job_id)

    def next(self, state: State, *, move_to: State | None = None) -> Job | None:
        """Return the job that has been in a state for longest and may be tried now. move_to: the state it gets at once.

        One that is to wait for longer than any does was put off before the clock was set back.
        """
        now = time.time()
        with self._database.transaction() as connection:
            row = connection.execute(
                "SELECT * FROM jobs WHERE state = ? AND not_before NOT BETWEEN ? AND ? ORDER BY changed LIMIT 1",
                (state, now, now + LONGEST_WAIT_S),
            ).fetchone()
            if row is None:
                return None
            if move_to is not None:
                connection.execute("UPDATE jobs SET state = ? WHERE id = ?", (move_to, row["id"]))
            return _one(connection, row["id"])

    def move(self, job: Job, state: State, **values: Any) -> None:
        """Put a job into a state, unless it has left its own. values: of other columns; going on resets the attempts."""
        self._update(job, state=state, attempts=0, not_before=0.0, **values)

    def put_off(self, job: Job, seconds: float, **values: Any) -> None:
        """Try a job again later, behind the others. values: of other columns."""
        self._update(job, not_before=time.time() + seconds, **values)

    def found_series(self, job: Job, series: str) -> None:
        """Note the series of an order that named its instance alone. The job keeps its id."""
        order = json.dumps(asdict(replace(job.order, series=series)))
        self._update(job, job_order=order, series=series)

    def recover(self) -> list[Job]:
        """Queue again what ran when the node was killed, behind the others. Return these jobs as they are now."""
        with self._database.transaction() as connection:
            found = connection.execute(
                "SELECT id FROM jobs WHERE state = ? ORDER BY changed", (State.RUNNING,)
            ).fetchall()
            for row in found:
                connection.execute(
                    "UPDATE jobs SET state = ?, interruptions = interruptions + 1, changed = ? WHERE id = ?",
                    (State.QUEUED, time.time(), row["id"]),
                )
            return [job for row in found if (job := _one(connection, row["id"]))]

    def counts(self) -> dict[State, int]:
        """Return how many jobs are in each state."""
        with self._database.transaction() as connection:
            rows = connection.execute("SELECT state, COUNT(*) FROM jobs GROUP BY state").fetchall()
        return dict.fromkeys(State, 0) | {State(state): count for state, count in rows}

    def is_full(self) -> bool:
        """Tell whether as many jobs are open as are allowed."""
        with self._database.transaction() as connection:
            return _count(connection, OPEN) >= self._limit

    def ended_before(self, state: State, moment: float) -> list[Job]:
        """Return the jobs that have been done or dead since before a moment."""
        assert state in ENDED
        with self._database.transaction() as connection:
            rows = connection.execute("SELECT * FROM jobs WHERE state = ? AND changed < ?", (state, moment)).fetchall()
        return [_job(row) for row in rows]

    def forget(self, job: Job) -> None:
        """Remove a job, unless it was asked for again."""
        with self._database.transaction() as connection:
            connection.execute(
                "DELETE FROM jobs WHERE id = ? AND state = ? AND changed = ?", (job.id, job.state, job.changed)
            )

    def _update(self, job: Job, **values: Any) -> None:
        values["changed"] = time.time()
        for name in ("reason", "outputs"):
            if values.get(name) is not None:
                values[name] = json.dumps(values[name])
        assignments = ", ".join(f"{name} = ?" for name in values)
        with self._database.transaction() as connection:
            connection.execute(
                f"UPDATE jobs SET {assignments} WHERE id = ? AND state = ?",  # noqa: S608 - our own names
                (*values.values(), job.id, job.state),
            )


def _count(connection: sqlite3.Connection, states: Sequence[State]) -> int:
    marks = ", ".join("?" * len(states))
    found = connection.execute(f"SELECT COUNT(*) FROM jobs WHERE state IN ({marks})", states).fetchone()  # noqa: S608 - question marks
    return int(found[0])


def _one(connection: sqlite3.Connection, job_id: str) -> Job | None:
    row = connection.execute("SELECT * FROM jobs WHERE id = ?", (job_id,)).fetchone()
    return None if row is None else _job(row)


def _job(row: sqlite3.Row) -> Job:
    plain = ("id", "created", "changed", "not_before", "attempts", "crashes", "interruptions")
    return Job(
        order=Order.from_json(json.loads(row["job_order"])),
        caller=Caller(**json.loads(row["caller"])),
        state=State(row["state"]),
        reason=None if row["reason"] is None else json.loads(row["reason"]),
        outputs=None if row["outputs"] is None else json.loads(row["outputs"]),
        **{name: row[name] for name in plain},
    )
