"""TLS contexts of servers and clients, version 1.2 or later, from PEM files."""

from __future__ import annotations

import ssl
import stat
from dataclasses import dataclass
from pathlib import Path

from medseg_service.errors import ConfigurationError


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerTls:
    """What a server shows, and whom it lets in."""

    certificate: Path
    """PEM: its certificate, then those between it and the root."""
    key: Path
    """PEM, without a password."""
    client_ca: Path | None = None
    """PEM: only clients with a certificate of one of these authorities are let in."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClientTls:
    """Whom a client trusts, and what it shows."""

    ca: Path | None = None
    """PEM of the authorities to trust; default: those of the system."""
    certificate: Path | None = None
    """PEM: the client's own certificate, where the server asks for one."""
    key: Path | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise ConfigurationError("a client's certificate and its key go together", "Give both or none.")


def server_context(files: ServerTls) -> ssl.SSLContext:
    """Return the context of a server.

    Raises:
        ConfigurationError: a file cannot be read, or is no certificate or key.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(files.certificate, files.key, password=_no_password)
        _check_private(files.key)
        if files.client_ca is not None:
            context.load_verify_locations(files.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except ConfigurationError:
        raise
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise _unusable(error) from error
    return context


def client_context(files: ClientTls) -> ssl.SSLContext:
    """Return the context of a client, which verifies the server's certificate and name.

    Raises:
        ConfigurationError: a file cannot be read, or is no certificate or key.
    """
    try:
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=files.ca)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if files.certificate is not None and files.key is not None:
            context.load_cert_chain(files.certificate, files.key, password=_no_password)
            _check_private(files.key)
    except ConfigurationError:
        raise
    except (OSError, ValueError) as error:
        raise _unusable(error) from error
    return context


def _check_private(key: Path) -> None:
    """Refuse a key that everybody on the machine may read or change; a group may, as Debian's ssl-cert does."""
    if key.stat().st_mode & stat.S_IRWXO:
        raise ConfigurationError("others may read or change the key of a certificate", "Run `chmod 640` or 600 on it.")


def _no_password() -> str:
    raise ValueError("the key has a password")


def _unusable(error: Exception) -> ConfigurationError:
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
    return ConfigurationError(
        f"a TLS file cannot be used: {reason}", "Give PEM files: a certificate, and its key without a password."
    )
