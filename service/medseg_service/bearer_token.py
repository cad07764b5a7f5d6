"""Bearer tokens (RFC 6750), each in a file of its own that nobody else may read."""

from __future__ import annotations

import hmac
import os
import re
import stat
from pathlib import Path

from medseg_runtime.files.read import opened
from medseg_service.errors import ConfigurationError

SHORTEST = 16
REMEDY = "Write one with `(umask 077; openssl rand -hex 32 > FILE)`."


def read_token(path: Path) -> str:
    """Return the token in a file.

    Raises:
        ConfigurationError: the file cannot be read, others may read it, or it holds no token of at least 16 characters.
    """
    with opened(path, ConfigurationError, REMEDY, name="the token file", limit=4096) as file:
        mode = os.fstat(file.fileno()).st_mode
        content = file.read()
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigurationError("others may read or change the token file", "Run `chmod 600` on it.")
    token = content.decode("ascii", "replace").strip()
    if not re.fullmatch(r"[A-Za-z0-9._~+/-]+=*", token) or len(token) < SHORTEST:
        raise ConfigurationError(f"the token file holds no token of at least {SHORTEST} characters", REMEDY)
    return token


def is_authorized(header: str | None, token: str) -> bool:
    """Tell whether an Authorization header holds a token. The time it takes says nothing about the token."""
    scheme, _, given = (header or "").partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), token.encode())
