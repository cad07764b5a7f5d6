"""What a failure has to do with too few threads, too little memory or too many open files."""

from __future__ import annotations

import errno
import re

from medseg_runtime.errors import MedsegError
from medseg_runtime.machine.memory import available_bytes

NO_THREADS = (
    "no more threads can be started",
    "Raise the limit of threads (`ulimit -u`, or the container's `--pids-limit`), or end other programs.",
)
NO_MEMORY = (
    "there is not enough memory",
    "End other programs, or raise the limit of memory (`ulimit -v`, or the container's `--memory`).",
)
NO_DESCRIPTORS = (
    "too many files are open",
    "Raise the limit of open files (`ulimit -n`), or end other programs.",
)
LITTLE_BYTES = 64 << 20
"""With less free than this, whatever fails most likely fails for it."""
_THREADS = re.compile("Resource temporarily unavailable|can't start new thread|pthread|PosixThread", re.IGNORECASE)
_MEMORY = re.compile(
    "bad_alloc|bad allocation|can't alloc|cannot allocate|failed to allocate|failed to map segment|out of memory",
    re.IGNORECASE,
)


def shortage(error: BaseException) -> tuple[str, str] | None:
    """Return reason and remedy of an error that a lack of threads, memory or descriptors has caused; None if it has another cause."""
    text = str(error)
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return NO_DESCRIPTORS
    if _THREADS.search(text):
        return NO_THREADS
    free = available_bytes()
    if isinstance(error, MemoryError) or _MEMORY.search(text) or (free is not None and free < LITTLE_BYTES):
        return NO_MEMORY
    return None


def names_shortage(error: MedsegError) -> bool:
    """Tell whether an error of ours says that threads, memory or descriptors were lacking."""
    return error.remedy in {remedy for _, remedy in (NO_THREADS, NO_MEMORY, NO_DESCRIPTORS)}
