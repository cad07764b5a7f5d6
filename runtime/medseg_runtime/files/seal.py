"""Seal content with a key of this user, so that others cannot put content of theirs in its place.

The key is a file of 32 random bytes, mode 0600, made on first use.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path

from medseg_runtime.files.owner import foreign
from medseg_runtime.files.replace import replacing

KEY_BYTES = 32
DIGITS = 64
"""Length of a seal in hexadecimal."""


def seal(key: bytes, name: str, content_sha256: str) -> bytes:
    """Return the seal of content under a name: another name has another seal."""
    return (
        hmac.new(key, f"{name}\0{content_sha256}".encode("utf-8", "surrogateescape"), hashlib.sha256)
        .hexdigest()
        .encode()
    )


def fits(found: bytes, expected: bytes) -> bool:
    """Compare two seals in a time that does not depend on them."""
    return hmac.compare_digest(found, expected)


def user_key(path: Path, *, make: bool) -> bytes | None:
    """Return the key in a file, which is made if it is missing and `make` is set. None if there is none that only this user knows.

    Raises:
        OSError: the file cannot be read or made.
    """
    try:
        return _read(path)
    except FileNotFoundError:
        if not make:
            return None
    with replacing(path, mode=0o600) as temporary:  # of two processes, the later one's key stays
        temporary.write_bytes(secrets.token_bytes(KEY_BYTES))
    return _read(path)


def _read(path: Path) -> bytes | None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        key = os.read(descriptor, KEY_BYTES + 1)
    finally:
        os.close(descriptor)
    private = foreign(status) is None and not status.st_mode & 0o077
    return key if private and len(key) == KEY_BYTES else None
