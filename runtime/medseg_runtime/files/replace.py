"""Write a file whole or not at all: under a temporary name beside it, then renamed."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PARTIAL = ".partial-"
"""Prefix of the temporary name."""


@contextmanager
def replacing(path: Path, *, mode: int | None = None) -> Iterator[Path]:
    """Give a new, empty file to write to. Rename it to `path` at the end of the block; remove it if the block fails.

    A process that is killed leaves the old file whole, and at worst a hidden `.partial-*` beside it, which
    `sweep.remove_files` removes.

    mode: permissions of the file; default: what the process's umask gives new files.

    Raises:
        OSError: the file cannot be made or renamed.
    """
    temporary = path.parent / f"{PARTIAL}{secrets.token_hex(8)}{path.suffix}"
    descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666 if mode is None else mode)
    mode = stat.S_IMODE(os.fstat(descriptor).st_mode)  # less the umask
    os.close(descriptor)
    try:
        yield temporary
        _set_mode(temporary, mode)  # a library may have made the file anew
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _set_mode(path: Path, mode: int) -> None:
    """Change the permissions of a file, but not through a link that somebody put in its place."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        os.fchmod(descriptor, mode)
    finally:
        os.close(descriptor)
