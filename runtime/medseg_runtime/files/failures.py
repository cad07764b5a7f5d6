"""What helps when the system refuses to write a file."""

from __future__ import annotations

import errno

_REMEDIES = dict.fromkeys((errno.EMFILE, errno.ENFILE), "Raise the limit of open files (`ulimit -n`).") | {
    errno.ENOMEM: "Close other programs, or use a machine with more memory.",
    errno.EAGAIN: "Raise the limits of processes and memory (`ulimit -a`).",
}


def remedy_for(error: OSError, otherwise: str) -> str:
    """Return the remedy for an error that has nothing to do with the place that was written to; else `otherwise`."""
    return _REMEDIES.get(error.errno or 0, otherwise)
