"""The user's cache folder, for compiled models and measured choices. Losing a file only costs time.

    <the system's cache folder>/medseglatdiff/<name>      the seal in hexadecimal, a newline, the content
    <the system's cache folder>/medseglatdiff.key         the key of the seals

What lies here is run, so nobody else may put it here: folder and files must belong to the user and be writable by nobody else, and
each file is sealed with the user's key. Files appear by renaming, so a process never reads half of one. A file whose seal does not
match counts as missing. Where the folder is not ours or cannot be written, nothing is stored and no error is raised.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from medseg_runtime.files.lock import lock
from medseg_runtime.files.owner import foreign
from medseg_runtime.files.replace import PARTIAL, replacing
from medseg_runtime.files.seal import DIGITS, fits, seal, user_key
from medseg_runtime.files.sweep import remove_files

LIMIT_BYTES = 1 << 30
"""Largest size of the folder. The least recently used files are removed first."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What lies under a name."""

    content: bytes
    sha256: str


def cache_folder() -> Path | None:
    """Return the folder, which may not exist; None for a user without a home."""
    from platformdirs import user_cache_path

    try:
        folder = user_cache_path("medseglatdiff", appauthor=False)
    except RuntimeError:  # no home; older versions of platformdirs leave ~ in the path
        return None
    return folder if folder.is_absolute() else None


def problem() -> str | None:
    """Return why the folder is not used although it is there, as the end of a sentence about it; None if there is no reason."""
    folder = cache_folder()
    if folder is None:
        return None
    try:
        for path in (folder, *(inner for inner in folder.iterdir() if inner.is_dir())):
            if reason := foreign(path.lstat()):
                return reason if path == folder else f"holds the folder {path.name}, which {reason}"
        if user_key(_key_path(folder), make=False) is None and _key_path(folder).exists():
            return f"has a key, {_key_path(folder).name}, that others could have read or written"
    except OSError:
        return None
    return None


def load(name: str) -> Stored | None:
    """Return what is stored under a name; None if it is missing or damaged, or others could have written it."""
    folder = cache_folder()
    if folder is None:
        return None
    try:
        key = user_key(_key_path(folder), make=False)
        if key is None or not _is_ours(folder, folder / name):
            return None
        descriptor = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if foreign(status) or not stat.S_ISREG(status.st_mode):
                return None
            found, content = file.read(DIGITS + 1), file.read()
    except OSError:
        return None
    with suppress(OSError):  # the folder may be read-only, as in a container
        os.utime(folder / name)
    sha256 = hashlib.sha256(content).hexdigest()
    return Stored(content, sha256) if fits(found, seal(key, name, sha256) + b"\n") else None


def store(name: str, content: bytes) -> bool:
    """Store content under a name; return whether that worked."""
    folder = cache_folder()
    if folder is None:
        return False
    try:
        if not _make_ours(folder, folder / name):
            return False
        key = user_key(_key_path(folder), make=True)
        if key is None:
            return False
        with replacing(folder / name, mode=0o600) as temporary, temporary.open("wb") as file:
            file.write(seal(key, name, hashlib.sha256(content).hexdigest()) + b"\n")
            file.write(content)
        remove_files((folder / name).parent, PARTIAL)
        _keep_below(LIMIT_BYTES, folder)
    except OSError:
        return False
    return True


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Run the block in one process at a time; others wait. Without a writable folder there is no lock."""
    folder = cache_folder()
    try:
        if folder is None or not _make_ours(folder, folder / name):
            raise FileNotFoundError
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(folder / name, flags, 0o600)
    except OSError:
        yield
        return
    try:
        lock(descriptor)
        yield
    finally:
        os.close(descriptor)


def remove(name: str) -> None:
    """Remove the content stored under a name."""
    folder = cache_folder()
    if folder is not None:
        with suppress(OSError):
            if _is_ours(folder, folder / name):
                (folder / name).unlink()


def writable() -> bool:
    """Tell whether something can be stored."""
    worked = store(".probe", b"")
    remove(".probe")
    return worked


def stored() -> dict[str, int]:
    """Return name -> size in bytes of every file, the least recently used first."""
    folder = cache_folder()
    return {} if folder is None else {path.relative_to(folder).as_posix(): size for _, size, path in _files(folder)}


def _key_path(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.key")


def _is_ours(folder: Path, path: Path) -> bool:
    """Tell whether the folders from `folder` to a file in it are folders that only this user can write to.

    Raises:
        OSError: one of them is missing.
    """
    inner = [folder / part for part in path.relative_to(folder).parents]
    return not any(foreign(each.lstat()) for each in inner)


def _make_ours(folder: Path, path: Path) -> bool:
    """Make the folders that a file needs, for this user alone. Tell whether they are."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    for each in reversed(path.relative_to(folder).parents):
        (folder / each).mkdir(mode=0o700, exist_ok=True)
    return _is_ours(folder, path)


def _files(folder: Path) -> list[tuple[float, int, Path]]:
    """Return (time of last use, bytes, path) of each file, sorted."""
    found = []
    for path in folder.rglob("*"):
        with suppress(OSError):  # another process may have removed it
            status = path.lstat()
            if stat.S_ISREG(status.st_mode):
                found.append((status.st_mtime, status.st_size, path))
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
