"""The OHIF viewer, served beside a DICOMweb server. `viewer` opens it in a browser.

It is the package @ohif/app of the npm registry, as its authors built it, and is kept in the user's cache folder. The environment
variable OHIF_APP names a folder with its `dist` instead.
"""

import functools
import http.server
import os
import shutil
import subprocess
import tarfile
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

VERSION = "3.12.10"
CONFIGURATION = Path(__file__).parents[2] / "examples" / "pacs" / "ohif.js"


def application() -> Path:
    """Return the folder of the built viewer. It is fetched with npm once."""
    if named := os.environ.get("OHIF_APP"):
        return Path(named)
    cache = Path.home() / ".cache" / "medseglatdiff-tests"
    folder = cache / f"ohif-{VERSION}"
    if not folder.exists():
        if shutil.which("npm") is None:
            pytest.skip("NOT JUDGED: npm is absent, and OHIF_APP names no built viewer")
        cache.mkdir(parents=True, exist_ok=True)
        subprocess.run(["npm", "pack", "--silent", f"@ohif/app@{VERSION}"], cwd=cache, check=True)
        partial = folder.with_suffix(".partial")
        with tarfile.open(cache / f"ohif-app-{VERSION}.tgz") as archive:
            archive.extractall(partial, filter="data")
        partial.rename(folder)
    return folder / "package" / "dist"


@contextmanager
def served(dicomweb: str) -> Iterator[str]:
    """Serve the viewer and a DICOMweb server under one address, on the loopback, and yield the address."""
    handler = functools.partial(_Handler, directory=str(application()), dicomweb=dicomweb)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


class _Handler(http.server.SimpleHTTPRequestHandler):
    """The viewer's files; its page for every other path; and DICOMweb, passed on."""

    def __init__(self, *args, dicomweb: str, **options) -> None:
        self.dicomweb = dicomweb
        super().__init__(*args, **options)

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path.startswith("/dicom-web/"):
            self._pass_on()
        elif path == "/app-config.js":
            self._send(200, "text/javascript", CONFIGURATION.read_bytes())
        else:
            if not Path(self.translate_path(path)).is_file():
                self.path = "/index.html"
            super().do_GET()

    def _pass_on(self) -> None:
        url = self.dicomweb + self.path.removeprefix("/dicom-web")
        request = urllib.request.Request(url, headers={"Accept": self.headers.get("Accept", "*/*")})  # noqa: S310
        try:
            with urllib.request.urlopen(request) as answer:  # noqa: S310 - a server of the test's
                self._send(answer.status, answer.headers["Content-Type"], answer.read())
        except urllib.error.HTTPError as error:
            self._send(error.code, "text/plain", error.read())

    def _send(self, status: int, kind: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass
