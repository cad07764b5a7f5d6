"""The user's cache folder, for compiled models and measured choices. Losing a file only costs time.

    <the system's cache folder>/medseglatdiff/<name>      the SHA-256 of the content in hexadecimal, a newline, the content

Files appear by renaming, so a process never reads half of one. A file whose hash does not match counts as missing. Where the folder
cannot be written, nothing is stored and no error is raised.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from medseg_runtime.files.lock import lock
from medseg_runtime.files.replace import replacing

LIMIT_BYTES = 1 << 30
"""Largest size of the folder. The least recently used files are removed first."""
DIGITS = 64
"""Length of a SHA-256 in hexadecimal."""


def cache_folder() -> Path | None:
    """Return the folder, which may not exist; None for a user without a home."""
    from platformdirs import user_cache_path

    try:
        folder = user_cache_path("medseglatdiff", appauthor=False)
    except RuntimeError:  # no home; older versions of platformdirs leave ~ in the path
        return None
    return folder if folder.is_absolute() else None


def load(name: str) -> bytes | None:
    """Return the content stored under a name; None if it is missing or damaged."""
    folder = cache_folder()
    if folder is None:
        return None
    try:
        with (folder / name).open("rb") as file:
            digest, content = file.read(DIGITS + 1), file.read()
    except OSError:
        return None
    with suppress(OSError):  # the folder may be read-only, as in a container
        os.utime(folder / name)
    return content if digest == _digest(content) else None


def store(name: str, content: bytes) -> bool:
    """Store content under a name; return whether that worked."""
    folder = cache_folder()
    if folder is None:
        return False
    try:
        (folder / name).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with replacing(folder / name, mode=0o600) as temporary, temporary.open("wb") as file:
            file.write(_digest(content))
            file.write(content)
        _keep_below(LIMIT_BYTES, folder)
    except OSError:
        return False
    return True


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Run the block in one process at a time; others wait. Without a writable folder there is no lock."""
    folder = cache_folder()
    try:
        if folder is None:
            raise FileNotFoundError
        (folder / name).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = (folder / name).open("ab")
    except OSError:
        yield
        return
    with file:
        lock(file.fileno())
        yield


def remove(name: str) -> None:
    """Remove the content stored under a name."""
    folder = cache_folder()
    if folder is not None:
        with suppress(OSError):
            (folder / name).unlink()


def writable() -> bool:
    """Tell whether the cache can be written."""
    worked = store(".probe", b"")
    remove(".probe")
    return worked


def stored() -> dict[str, int]:
    """Return name -> size in bytes of every file, the least recently used first."""
    folder = cache_folder()
    return {} if folder is None else {path.relative_to(folder).as_posix(): size for _, size, path in _files(folder)}


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode() + b"\n"


def _files(folder: Path) -> list[tuple[float, int, Path]]:
    """Return (time of last use, bytes, path) of each file, sorted."""
    found = []
    for path in folder.rglob("*"):
        with suppress(OSError):  # another process may have removed it
            if path.is_file():
                found.append((path.stat().st_mtime, path.stat().st_size, path))
    return sorted(found)


def _keep_below(limit: int, folder: Path) -> None:
    files = _files(folder)
    total = sum(size for _, size, _ in files)
    for _, size, path in files:
        if total <= limit:
            break
        with suppress(OSError):
            path.unlink()
            total -= size
