"""Remove folders of this user, and what killed runs left: folders and files. In folders that others write to as well, a name may be a trap.

No link is followed: folders are opened with O_NOFOLLOW and what is in them is reached from there. A run holds the lock of the folder
that it writes to, so a folder that can be locked belongs to no running process. A clock that jumps can only delay a removal.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

STALE_SECONDS = 24 * 3600
"""What killed runs left is removed when it is older: its file system may have no locks between machines."""
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


@contextmanager
def opened_folder(name: Path | str, parent: int | None = None) -> Iterator[int]:
    """Open a folder and close it at the end of the block.

    name: a path, or with `parent` a name in that open folder, which must not be a link.

    Raises:
        OSError: there is no such folder.
    """
    descriptor = os.open(name, _FOLDER | (0 if parent is None else os.O_NOFOLLOW), dir_fd=parent)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def claim(path: Path) -> int | None:
    """Lock a new folder until its descriptor, which is returned, is closed. None if another process has it, or has removed it.

    Raises:
        OSError: the folder cannot be opened.
    """
    try:
        descriptor = os.open(path, _FOLDER | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        ours = holds(descriptor, path)
    except BlockingIOError:
        ours = False
    except OSError:  # no locks for folders here, so that nobody removes it either
        ours = True
    if not ours:
        os.close(descriptor)
        return None
    return descriptor


def holds(descriptor: int, path: Path) -> bool:
    """Tell whether a path still is the folder that was opened."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except OSError:
        return False


def remove_folder(path: Path) -> None:
    """Remove a folder as far as possible, read-only sub-folders included."""
    with suppress(OSError), opened_folder(path.parent) as parent:
        _remove(path.name, parent)


def remove_stale(folder: Path, prefix: str) -> None:
    """Remove the folders of this user in a folder whose names start with `prefix`, that are old, and that no process holds."""
    with suppress(OSError), opened_folder(folder) as parent, os.scandir(parent) as entries:
        for entry in entries:
            if entry.name.startswith(prefix):
                with suppress(OSError), opened_folder(entry.name, parent) as descriptor:
                    status = os.fstat(descriptor)
                    if status.st_uid == os.geteuid() and time.time() - status.st_mtime > STALE_SECONDS:
                        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises where a process holds it
                        _remove(entry.name, parent)


def remove_files(folder: Path, prefix: str, *, older_seconds: float = STALE_SECONDS) -> None:
    """Remove the files of this user in a folder whose names start with `prefix`, and that are older than this.

    folder: must not be a link.
    older_seconds: 0 where no other process writes, for example because this one holds a lock.
    """
    with suppress(OSError), opened_folder(folder.parent) as parent, opened_folder(folder.name, parent) as descriptor:
        with os.scandir(descriptor) as entries:
            found = [entry for entry in entries if entry.name.startswith(prefix)]
        for entry in found:
            with suppress(OSError):
                status = entry.stat(follow_symlinks=False)
                ours = stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid()
                if ours and time.time() - status.st_mtime >= older_seconds:
                    os.unlink(entry.name, dir_fd=descriptor)


def _remove(name: str, parent: int) -> None:
    """Remove a folder in an open folder."""
    with suppress(OSError):
        for _, _, _, inner in os.fwalk(name, dir_fd=parent, follow_symlinks=False):
            if os.fstat(inner).st_uid == os.geteuid():
                os.fchmod(inner, 0o700)
    shutil.rmtree(name, ignore_errors=True, dir_fd=parent)
