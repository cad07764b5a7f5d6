"""Who may reach a service: tokens, TLS files, addresses."""

import ssl

import pytest

from medseg_service.bearer_token import is_authorized, read_token
from medseg_service.errors import ConfigurationError
from medseg_service.listening import bound_socket, check_exposure
from medseg_service.tls import ClientTls, ServerTls, client_context, server_context

TOKEN = "a" * 32


@pytest.fixture
def token_file(tmp_path):
    path = tmp_path / "token"
    path.touch(0o600)
    path.write_text(f"{TOKEN}\n")
    return path


def test_a_token_is_read_without_its_newline(token_file):
    assert read_token(token_file) == TOKEN


def test_a_token_that_others_may_read_is_refused(token_file):
    token_file.chmod(0o644)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        read_token(token_file)


@pytest.mark.parametrize("content", ["short", "two words of it all", "é" * 20])
def test_a_weak_token_is_refused(token_file, content):
    token_file.write_text(content)
    with pytest.raises(ConfigurationError, match="no token of at least 16"):
        read_token(token_file)


@pytest.mark.parametrize(
    ("header", "authorized"),
    [(f"Bearer {TOKEN}", True), (f"bearer {TOKEN}", True), (f"Basic {TOKEN}", False), (TOKEN, False), (None, False),
     ("Bearer", False), ("Bearer é", False), (f"Bearer {TOKEN}a", False)],
)  # fmt: skip
def test_only_the_token_authorizes(header, authorized):
    assert is_authorized(header, TOKEN) is authorized


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.3.2.1"])
def test_this_machine_needs_neither_token_nor_tls(host):
    check_exposure(host, has_token=False, has_tls=False, allowed=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "node.hospital.example"])  # noqa: S104
@pytest.mark.parametrize(("token", "tls"), [(False, False), (True, False), (False, True)])
def test_others_need_both(host, token, tls):
    with pytest.raises(ConfigurationError, match="allow_insecure"):
        check_exposure(host, has_token=token, has_tls=tls, allowed=False)
    check_exposure(host, has_token=token, has_tls=tls, allowed=True)
    check_exposure(host, has_token=True, has_tls=True, allowed=False)


def test_a_port_that_is_taken_is_named():
    with bound_socket("127.0.0.1", 0) as taken:
        taken.listen()
        with pytest.raises(ConfigurationError, match=r"cannot listen on 127\.0\.0\.1:"):
            bound_socket("127.0.0.1", taken.getsockname()[1])


def test_tls_files_are_checked(certificates, tmp_path):
    certificate, key = certificates("one")
    _, other = certificates("two")
    assert server_context(ServerTls(certificate=certificate, key=key)).verify_mode == ssl.CERT_NONE
    mutual = server_context(ServerTls(certificate=certificate, key=key, client_ca=certificate))
    assert mutual.verify_mode == ssl.CERT_REQUIRED
    assert client_context(ClientTls(ca=certificate)).check_hostname
    for wrong in (other, certificate, tmp_path / "none"):
        with pytest.raises(ConfigurationError, match=r"a TLS file cannot be used.*PEM"):
            server_context(ServerTls(certificate=certificate, key=wrong))
    with pytest.raises(ConfigurationError, match="go together"):
        ClientTls(certificate=certificate)


def test_a_key_that_everybody_may_read_is_refused(certificates, tmp_path):
    certificate, key = certificates("open")
    copy = tmp_path / "copy.key"
    copy.write_bytes(key.read_bytes())
    copy.chmod(0o644)
    for use in (
        lambda: server_context(ServerTls(certificate=certificate, key=copy)),
        lambda: client_context(ClientTls(ca=certificate, certificate=certificate, key=copy)),
    ):
        with pytest.raises(ConfigurationError, match=r"others may read.*chmod"):
            use()
    copy.chmod(0o640)
    server_context(ServerTls(certificate=certificate, key=copy))
