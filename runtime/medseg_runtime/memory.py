"""How much memory this process may still take, without which Linux ends it in the middle of an image."""

from __future__ import annotations

import re
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
"""Where a container sees its own limit (version 2)."""


def available_bytes(meminfo: Path = Path("/proc/meminfo"), cgroup: Path = CGROUP) -> int | None:
    """Return what the machine and our container leave us; None where neither says."""
    known = []
    if found := re.search(r"^MemAvailable:\s*(\d+) kB$", _text(meminfo), re.MULTILINE):
        known.append(1024 * int(found[1]))
    limit, used = _text(cgroup / "memory.max").strip(), _text(cgroup / "memory.current").strip()
    if limit.isdigit() and used.isdigit():
        known.append(max(int(limit) - int(used), 0))
    return min(known, default=None)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
