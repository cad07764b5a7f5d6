"""The node's database: SQLite in WAL mode. What a transaction has committed is on the disk, and survives any kill and a loss of power."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

from medseg_runtime.errors import OutputError

VERSION = 1
SCHEMA = """
CREATE TABLE jobs (
    id TEXT PRIMARY KEY,
    job_order TEXT NOT NULL,
    caller TEXT NOT NULL,
    state TEXT NOT NULL,
    study TEXT NOT NULL,
    series TEXT NOT NULL,
    created REAL NOT NULL,
    changed REAL NOT NULL,
    not_before REAL NOT NULL,
    attempts INTEGER NOT NULL,
    crashes INTEGER NOT NULL,
    interruptions INTEGER NOT NULL,
    reason TEXT,
    outputs TEXT
) STRICT;
CREATE INDEX jobs_by_state ON jobs (state, not_before, changed);
CREATE INDEX jobs_by_series ON jobs (study, series);
CREATE TABLE objects (
    study TEXT NOT NULL,
    series TEXT NOT NULL,
    instance TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    received REAL NOT NULL,
    PRIMARY KEY (study, series, instance)
) STRICT;
"""


class Database:
    """One connection for all threads of the node, used by one at a time."""

    def __init__(self, path: Path) -> None:
        """Open the database, and make it if it is not there.

        Raises:
            OutputError: it cannot be opened, or is of another version.
        """
        self._lock = Lock()
        try:
            self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
            self._connection.row_factory = sqlite3.Row
            for pragma in ("journal_mode = WAL", "synchronous = FULL"):
                self._connection.execute(f"PRAGMA {pragma}")
            version = self._connection.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                self._connection.executescript(f"BEGIN; {SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;")
        except sqlite3.Error as error:
            raise OutputError(
                f"the node's database cannot be opened: {error}", "Free some space, or give another `state` folder."
            ) from error
        if version not in (0, VERSION):
            self.close()
            raise OutputError(
                f"the node's database has version {version}, not {VERSION}", "Use another `state` folder."
            )

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Commit at the end of the block, or change nothing if it fails.

        Raises:
            OutputError: the disk is full or fails.
        """
        with self._lock:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException as error:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                if isinstance(error, sqlite3.Error):
                    raise OutputError(f"the node's database failed: {error}", "Free some space.") from error
                raise

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._connection.close()
