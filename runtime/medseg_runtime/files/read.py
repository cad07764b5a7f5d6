"""Read a regular file whole, with one error of the caller's kind for anything that goes wrong."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

from medseg_runtime.errors import MedsegError

MAX_FILE_BYTES = 1 << 30


def read_bytes(
    path: Path, error: type[MedsegError], remedy: str, *, name: str = "", limit: int = MAX_FILE_BYTES
) -> bytes:
    """Return the content of a regular file. Never wait for a pipe or a device.

    error: the class to raise. remedy: how its message ends. name: what the message calls the file, if anything. limit: in bytes.

    Raises:
        error: the file is missing, unreadable, not a regular file, empty, or larger than the limit.
    """
    with opened(path, error, remedy, name=name, limit=limit) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise error(f"{name}{': ' * bool(name)}the file grew while it was read", remedy)
    return content


@contextmanager
def opened(
    path: Path, error: type[MedsegError], remedy: str, *, name: str = "", limit: int | None = MAX_FILE_BYTES
) -> Iterator[BufferedReader]:
    """Open a regular file, as `read_bytes` does. What fails inside the block is an error of the file too.

    limit: the largest size in bytes; None for any.
    """
    prefix = f"{name}{': ' * bool(name)}"
    try:
        # O_NONBLOCK: opening a pipe without a writer would wait forever.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except ValueError as cause:  # a null byte in the name
        raise error(f"{prefix}the file cannot be read: {cause}", remedy) from cause
    except OSError as cause:
        raise error(f"{prefix}the file cannot be read: {cause.strerror}", remedy) from cause
    try:
        if (problem := _problem(os.fstat(descriptor), limit)) is not None:
            raise error(f"{prefix}{problem}", remedy)
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            yield file
    except MedsegError:
        raise
    except OSError as cause:
        raise error(f"{prefix}the file cannot be read: {cause.strerror}", remedy) from cause
    finally:
        os.close(descriptor)


def sha256_of(path: Path, error: type[MedsegError], remedy: str) -> str:
    """Return the SHA-256 of a regular file of any size, which is read piece by piece. Never wait for a pipe or a device.

    Raises:
        error: the file is missing, unreadable, not a regular file, or empty.
    """
    with opened(path, error, remedy, limit=None) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_folder(path: Path) -> bool:
    """Tell whether a path is a folder; False for a name that is too long."""
    try:
        return path.is_dir()
    except OSError:  # too long
        return False


def is_link(path: Path) -> bool:
    """Tell whether a path is a link; False for a name that is too long."""
    try:
        return path.is_symlink()
    except OSError:  # too long
        return False


def _problem(status: os.stat_result, limit: int | None) -> str | None:
    if stat.S_ISDIR(status.st_mode):
        return "this is a folder"
    if not stat.S_ISREG(status.st_mode):
        return "this is a pipe or a device, not a file"
    if status.st_size == 0:
        return "the file is empty"
    if limit is not None and status.st_size > limit:
        unit, power = ("GiB", 30) if limit >= 1 << 30 else ("MiB", 20) if limit >= 1 << 20 else ("KiB", 10)
        return f"the file has {status.st_size / 2**power:.1f} {unit}, more than {limit >> power}"
    return None
