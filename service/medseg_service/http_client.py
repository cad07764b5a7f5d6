"""HTTP clients with timeouts, verified TLS and a bearer token from a file."""

from __future__ import annotations

from pathlib import Path

import httpx

from medseg_service.bearer_token import read_token
from medseg_service.tls import ClientTls, client_context


def http_client(url: str, *, token_file: Path | None, tls: ClientTls | None, timeout_s: float) -> httpx.Client:
    """Return a client for one server. No proxy and no setting of the environment applies, and redirects are not followed.

    url: of the server; paths of requests continue it. timeout_s: for each of connecting, sending and receiving.

    Raises:
        ConfigurationError: the token or a TLS file cannot be used.
    """
    headers = {} if token_file is None else {"Authorization": f"Bearer {read_token(token_file)}"}
    return httpx.Client(
        base_url=url.rstrip("/") + "/",
        headers=headers,
        timeout=timeout_s,
        verify=client_context(tls or ClientTls()),
        trust_env=False,
        follow_redirects=False,
    )
