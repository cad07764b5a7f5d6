"""Append one line to the audit file: whole, locked, and on the disk before the call returns."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from medseg_runtime.errors import MedsegError, OutputError
from medseg_runtime.files.failures import remedy_for
from medseg_runtime.files.lock import lock

OTHER = "Give another --audit."


def check_audit_file(path: Path) -> None:
    """Open the file for appending, and close it.

    Raises:
        OutputError: it cannot be opened, or is not a regular file.
    """
    with _opened(path):
        pass


def append_line(path: Path, line: str) -> None:
    """Append one line in one write, and wait until the disk has it.

    Raises:
        OutputError: it cannot be written; then the file is as it was.
    """
    content = line.encode() + b"\n"
    with _opened(path) as descriptor:
        lock(descriptor)  # until it is closed
        size = os.fstat(descriptor).st_size
        try:
            written = os.write(descriptor, content)
        except OSError:
            os.ftruncate(descriptor, size)
            raise
        if written != len(content):
            os.ftruncate(descriptor, size)
            raise OutputError("the audit line cannot be written: the disk is full", "Free some space and run it again.")
        os.fsync(descriptor)


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    try:
        # O_NONBLOCK: opening a pipe that nobody reads would otherwise wait for ever.
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
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
