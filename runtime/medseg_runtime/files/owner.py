"""Files and folders that nobody but this user can change."""

from __future__ import annotations

import os
import stat

WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def foreign(status: os.stat_result) -> str | None:
    """Return why others may have written a file or folder, as the end of a sentence about it; None if they cannot have.

    status: of the file itself, not of what a link points at. A link is foreign.
    """
    if stat.S_ISLNK(status.st_mode):
        return "is a link"
    if status.st_uid != os.geteuid():
        return f"belongs to user {status.st_uid}, not to {os.geteuid()}"
    if status.st_mode & WRITABLE_BY_OTHERS:
        return f"can be written by others (mode {stat.S_IMODE(status.st_mode):o})"
    return None
