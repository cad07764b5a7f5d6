"""The lines of an audit file: whole, locked, chained, and on the disk before the call returns.

Each line holds the SHA-256 of the line before it. So a line that is changed, removed or put between two others shows, unless all lines
after it are written again; whoever keeps the hash of the last line elsewhere sees that too.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medseg_runtime.errors import MedsegError, OutputError
from medseg_runtime.files.failures import remedy_for
from medseg_runtime.files.lock import lock

PREVIOUS = "previous_sha256"
"""The key of the hash: of the line before without its end; None in the first line of a file."""
OTHER = "Give another --audit."
BLOCK = 1 << 16


def check_audit_file(path: Path) -> None:
    """Open the file for appending, and close it.

    Raises:
        OutputError: it cannot be opened, or is not a regular file.
    """
    with _opened(path):
        pass


def append_record(path: Path, record: Mapping[str, Any]) -> None:
    """Append a record as one line, with the hash of the line before, in one write. Wait until the disk has it.

    Raises:
        OutputError: it cannot be written; then the file is as it was.
    """
    with _opened(path) as descriptor:
        lock(descriptor)  # until it is closed
        size = os.fstat(descriptor).st_size
        last = _last_line(descriptor, size)
        chained = {PREVIOUS: None if last is None else _sha256(last), **record}
        content = json.dumps(chained, allow_nan=False).encode() + b"\n"
        if last is not None and not last.endswith(b"\n"):  # a machine that lost power left it unfinished
            content = b"\n" + content
        try:
            written = os.write(descriptor, content)
        except OSError:
            os.ftruncate(descriptor, size)
            raise
        if written != len(content):
            os.ftruncate(descriptor, size)
            raise OutputError("the audit line cannot be written: the disk is full", "Free some space and run it again.")
        os.fsync(descriptor)


def _last_line(descriptor: int, size: int) -> bytes | None:
    """Return the last line of a file with its end, if it has one."""
    found, start = b"", size
    while start and found[:-1].rfind(b"\n") < 0:
        length = min(BLOCK, start)
        start -= length
        found = os.pread(descriptor, length, start) + found
    return found[found[:-1].rfind(b"\n") + 1 :] or None


def _sha256(line: bytes) -> str:
    return hashlib.sha256(line.removesuffix(b"\n")).hexdigest()


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    try:
        # O_NONBLOCK: opening a pipe that nobody reads would otherwise wait for ever.
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OutputError("the audit file is a pipe or a device", "Give a plain file to --audit.")
            yield descriptor
        finally:
            os.close(descriptor)
    except MedsegError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        reason = error.strerror if isinstance(error, OSError) else error
        remedy = remedy_for(error, OTHER) if isinstance(error, OSError) else OTHER
        raise OutputError(f"the audit file cannot be written: {reason}", remedy) from error
