"""Hidden files and folders that killed runs leave, and a later run removes once they are a day old."""

from __future__ import annotations

import os
import time
from pathlib import Path

from medseg_runtime.files.publish import PARTIAL, REPLACED
from medseg_runtime.files.sweep import STALE_SECONDS

PREFIXES = (PARTIAL, REPLACED, ".partial-")


def orphans(folder: Path) -> list[Path]:
    """List them, at any depth."""
    return [path for path in folder.rglob(".*") if path.name.startswith(PREFIXES)]


def age_orphans(folder: Path) -> None:
    """Make them look old enough to be removed."""
    long_ago = time.time() - 2 * STALE_SECONDS
    for path in orphans(folder):
        os.utime(path, (long_ago, long_ago))
