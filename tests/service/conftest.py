"""What the suites of the services share."""

import shutil
import subprocess

import pytest

for package in ("httpx", "pynetdicom", "starlette", "uvicorn", "prometheus_client", "highdicom"):
    pytest.importorskip(package, reason="needs the extra node")


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    """certificates(name) -> (certificate, key): self-signed, for localhost and 127.0.0.1."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is absent: as root, apt-get install openssl")
    folder = tmp_path_factory.mktemp("certificates")

    def make(name):
        certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
        if not key.exists():
            subject = ["-subj", f"/CN={name}", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
            files = ["-keyout", key, "-out", certificate]
            command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject, *files]
            subprocess.run(command, check=True, capture_output=True)
        return certificate, key

    return make
