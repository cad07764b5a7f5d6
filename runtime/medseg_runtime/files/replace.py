"""Write a file whole or not at all: under a temporary name beside it, then renamed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path, *, mode: int | None = None) -> Iterator[Path]:
    """Give a new, empty file to write to. Rename it to `path` at the end of the block; remove it if the block fails.

    A process that is killed leaves the old file whole, and at worst a hidden `.partial-*` beside it.

    mode: permissions of the file; default: what the process's umask gives new files.

    Raises:
        OSError: the file cannot be made or renamed.
    """
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".partial-", suffix=path.suffix)
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(_default_mode() if mode is None else mode)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _default_mode() -> int:
    """Return the mode of a new file. Linux shows the umask; asking the process for it would change it for a moment."""
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("Umask:"):
            return 0o666 & ~int(line.split()[1], 8)
    return 0o644
