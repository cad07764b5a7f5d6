"""What a fuzzing process counts, in a file that outlives it: a signal leaves no time to write."""

from __future__ import annotations

import mmap
import struct
from dataclasses import astuple, dataclass
from pathlib import Path

LAYOUT = struct.Struct("<QQQ")


@dataclass(slots=True)
class Counts:
    """Of one process."""

    read: int = 0
    """Inputs that gave a result."""
    refused: int = 0
    """Inputs that gave an error of ours."""
    longest_ms: int = 0
    """Most processor time of one input."""


class CountsFile:
    """The file, kept in memory."""

    def __init__(self, path: Path) -> None:
        self.counts = Counts()
        with path.open("w+b") as file:
            file.write(bytes(LAYOUT.size))
            file.flush()
            self._memory = mmap.mmap(file.fileno(), LAYOUT.size)

    def write(self) -> None:
        """Bring the file up to date."""
        self._memory[:] = LAYOUT.pack(*astuple(self.counts))


def read_counts(path: Path) -> Counts:
    """Return what a process has counted; nothing if it never began."""
    return Counts(*LAYOUT.unpack(path.read_bytes())) if path.exists() else Counts()
