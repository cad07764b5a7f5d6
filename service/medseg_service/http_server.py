"""An HTTP server with the limits that uvicorn and Starlette do not have.

headers that do not come within 10 s        the connection is closed
more headers than 16 KiB                    400
a body larger than the application takes    413
a body that does not come within 10 s       408
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from threading import Thread
from typing import Any

import uvicorn
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

PATIENCE_S = 10.0
MAX_HEADER_BYTES = 16 << 10
CONNECTIONS = 128


class _PatientProtocol(H11Protocol):
    """Closes a connection whose first request does not come in time: uvicorn waits for ever."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._deadline = self.loop.call_later(PATIENCE_S, self._close_if_idle)

    def connection_lost(self, exc: Exception | None) -> None:
        self._deadline.cancel()
        super().connection_lost(exc)

    def _close_if_idle(self) -> None:
        if self.cycle is None:
            self.transport.close()


class LimitedBody:
    """Middleware: refuses bodies that are too large, or too slow."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self.app = app
        self.max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        body, status = await self._read(Request(scope, receive))
        if status is not None:
            await PlainTextResponse("", status, {"Connection": "close"})(scope, receive, send)
            return
        parts: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            return parts.pop() if parts else await receive()

        await self.app(scope, replay, send)

    async def _read(self, request: Request) -> tuple[bytes, int | None]:
        """Return the body, or the status to refuse it with."""
        body = bytearray()
        try:
            async with asyncio.timeout(PATIENCE_S):
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > self.max_bytes:
                        return b"", 413
        except TimeoutError:
            return b"", 408
        return bytes(body), None


class HttpServer:
    """An application served by a thread of its own, until it is stopped."""

    def __init__(self, app: ASGIApp, bound: socket.socket, context: ssl.SSLContext | None) -> None:
        config = uvicorn.Config(
            app,
            http=_PatientProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            h11_max_incomplete_event_size=MAX_HEADER_BYTES,
            limit_concurrency=CONNECTIONS,
            timeout_graceful_shutdown=10,
        )
        config.load()
        config.ssl = context
        self.bound = bound
        self._server = uvicorn.Server(config)
        arguments: dict[str, Any] = {"sockets": [bound]}
        self._thread = Thread(target=self._server.run, kwargs=arguments, name="medseg-http", daemon=True)

    @property
    def url(self) -> str:
        """Where it is reached from this machine."""
        host, port = self.bound.getsockname()[:2]
        return f"{'http' if self._server.config.ssl is None else 'https'}://{host}:{port}"

    def start(self) -> None:
        """Serve in a thread. Connections are taken from here on, and answered a moment later."""
        self.bound.listen()
        self._thread.start()

    def stop(self) -> None:
        """Answer what is in flight, and end."""
        self._server.should_exit = True
        self._thread.join()
