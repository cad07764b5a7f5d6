"""The user's cache folder: compiled models and measured choices, from one run to the next. Losing any of it costs time and nothing else.

    <the system's cache folder>/medseglatdiff/<name>      the SHA-256 of the content in hexadecimal, a line end, the content

A file is written beside its place and renamed, so that a process never reads half of what another writes; and one whose hash
does not fit is as good as none. Where no folder can be written nothing is kept, and nobody is bothered with it.
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
"""Of the folder; what was not used for longest goes first."""
DIGITS = 64
"""Of a SHA-256 in hexadecimal."""


def cache_folder() -> Path | None:
    """Return the folder, which need not exist; None for a user without a home."""
    from platformdirs import user_cache_path

    try:
        folder = user_cache_path("medseglatdiff", appauthor=False)
    except RuntimeError:  # without a home; older versions of platformdirs leave the ~ in the path
        return None
    return folder if folder.is_absolute() else None


def load(name: str) -> bytes | None:
    """Return what was stored under a name; None where there is nothing, or it is damaged."""
    folder = cache_folder()
    if folder is None:
        return None
    try:
        with (folder / name).open("rb") as file:
            seal, content = file.read(DIGITS + 1), file.read()
    except OSError:
        return None
    with suppress(OSError):  # the folder may be read-only, as in a container
        os.utime(folder / name)
    return content if seal == _seal(content) else None


def store(name: str, content: bytes) -> bool:
    """Keep something under a name; return whether that worked."""
    folder = cache_folder()
    if folder is None:
        return False
    try:
        (folder / name).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with replacing(folder / name, mode=0o600) as beside, beside.open("wb") as file:
            file.write(_seal(content))
            file.write(content)
        _keep_below(LIMIT_BYTES, folder)
    except OSError:
        return False
    return True


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Let one process at a time into the block; the others wait. Where no folder can be written nobody waits."""
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
    """Forget what was stored under a name."""
    folder = cache_folder()
    if folder is not None:
        with suppress(OSError):
            (folder / name).unlink()


def writable() -> bool:
    """Tell whether something can be stored."""
    worked = store(".probe", b"")
    remove(".probe")
    return worked


def stored() -> dict[str, int]:
    """Return the name and the bytes of every file in the folder, the least recently used first."""
    folder = cache_folder()
    return {} if folder is None else {path.relative_to(folder).as_posix(): size for _, size, path in _files(folder)}


def _seal(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode() + b"\n"


def _files(folder: Path) -> list[tuple[float, int, Path]]:
    """Time of the last use, bytes and path of each file."""
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
