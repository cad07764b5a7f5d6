"""The limits of the HTTP server."""

import socket

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from medseg_service import http_server
from medseg_service.http_client import http_client
from medseg_service.http_server import HttpServer, LimitedBody
from medseg_service.listening import bound_socket
from medseg_service.tls import ClientTls, ServerTls, server_context


async def echo(request: Request):
    return PlainTextResponse(await request.body())


@pytest.fixture
def serve(monkeypatch):
    """serve(context) -> a running server that echoes bodies of at most 1000 bytes, and waits half a second at most."""
    monkeypatch.setattr(http_server, "PATIENCE_S", 0.5)
    servers = []

    def start(context=None):
        app = LimitedBody(Starlette(routes=[Route("/", echo, methods=["POST"])]), 1000)
        server = HttpServer(app, bound_socket("127.0.0.1", 0), context)
        server.start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.stop()


def talk(server, *parts):
    """Send bytes, and return all that comes back until the connection is closed."""
    with socket.create_connection(server.bound.getsockname(), timeout=20) as connection:
        for part in parts:
            connection.sendall(part)
        answer = b""
        while received := connection.recv(1000):
            answer += received
        return answer


def test_a_body_arrives_whole(serve):
    server = serve()
    assert httpx.post(server.url, content=b"x" * 1000).text == "x" * 1000


@pytest.mark.parametrize("content", [b"x" * 1001, (b"x" * 600 for _ in range(2))], ids=["declared", "chunked"])
def test_a_large_body_is_413(serve, content):
    assert httpx.post(serve().url, content=content).status_code == 413


def test_a_stalled_body_is_408(serve):
    answer = talk(serve(), b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
    assert answer.startswith(b"HTTP/1.1 408")


@pytest.mark.parametrize("sent", [b"", b"POST / HTTP/1.1\r\nHost:"], ids=["idle", "half a header"])
def test_a_connection_without_a_request_is_closed(serve, sent):
    assert talk(serve(), sent) == b""


def test_large_headers_are_400(serve):
    header = b"POST / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * (1 << 17)
    with socket.create_connection(serve().bound.getsockname(), timeout=20) as connection:
        connection.sendall(header)
        assert connection.recv(100).startswith(b"HTTP/1.1 400")


def test_tls_is_verified_and_mutual(serve, certificates):
    (own, own_key), (client, client_key) = certificates("server"), certificates("client")
    server = serve(server_context(ServerTls(certificate=own, key=own_key, client_ca=client)))
    assert server.url.startswith("https://")

    def post(tls):
        with http_client(server.url, token_file=None, tls=tls, timeout_s=20) as sender:
            return sender.post("", content=b"x").text

    assert post(ClientTls(ca=own, certificate=client, key=client_key)) == "x"
    for refused in (ClientTls(certificate=client, key=client_key), ClientTls(ca=own)):
        with pytest.raises(httpx.TransportError):
            post(refused)
