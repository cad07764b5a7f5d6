"""Names that are safe to print and safe to write."""

from __future__ import annotations

import re
from pathlib import Path

from medseg_runtime.errors import escaped


def printable(path: Path | str) -> str:
    """Return a path with all unprintable characters escaped, as one line."""
    return escaped(str(path))


LONGEST = 100
"""Of a folder's name, in characters, which are ASCII here. A file system takes 255 bytes."""


def folder_names(classes: tuple[str, ...]) -> list[str]:
    """Return a safe file name for each class, all different."""
    safe = [re.sub(r"[^A-Za-z0-9_-]+", "-", name)[:LONGEST].strip("-") for name in classes]
    distinct = len({name.lower() for name in safe}) == len(safe) and all(safe)
    return safe if distinct else [f"{index}-{name}".rstrip("-") for index, name in enumerate(safe)]
