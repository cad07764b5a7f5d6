"""Where a service listens, and when it refuses to."""

from __future__ import annotations

import ipaddress
import re
import socket

from medseg_service.errors import ConfigurationError


def is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_exposure(host: str, *, has_token: bool, has_tls: bool, allowed: bool) -> None:
    """Refuse to listen beyond this machine without a token and TLS, unless that is allowed.

    Raises:
        ConfigurationError: it is not.
    """
    lacking = [name for name, there in (("token_file", has_token), ("tls", has_tls)) if not there]
    if lacking and not allowed and not is_loopback(host):
        raise ConfigurationError(
            f"others reach http.host {host}, and {' and '.join(lacking)} {'is' if len(lacking) == 1 else 'are'} not set",
            "Set token_file and [http.tls], or host = '127.0.0.1', or allow_insecure = true behind a proxy that does both.",
        )


def bound_socket(host: str, port: int) -> socket.socket:
    """Return a socket that is bound, and does not listen yet. port: 0 takes any that is free.

    Raises:
        ConfigurationError: the address cannot be used.
    """
    bound = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        if bound is not None:
            bound.close()
        raise ConfigurationError(
            f"cannot listen on {host}:{port}: {error.strerror}",
            "Choose another host or port, or end what listens there.",
        ) from error
    return bound


def is_direct(host_header: str) -> bool:
    """Tell whether a Host header is an address or localhost. A browser that was lured by a name of others (DNS rebinding) sends that name."""
    host = host_header.rpartition(":")[0] if re.search(r":[0-9]*$", host_header) else host_header
    try:
        ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return host.lower() == "localhost"
    return True
