"""Keep other processes out while a file is open."""

from __future__ import annotations

import errno
import fcntl

_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)
"""Errors of a file system without locks."""


def lock(descriptor: int, *, wait: bool = True) -> bool:
    """Take the exclusive lock of an open file, until it is closed or the process ends.

    wait: wait while another process holds it; otherwise return at once.

    Returns False only where another process holds the lock. A file system without locks gives True.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    return True
