"""Drive a headless Firefox by its own remote protocol, Marionette: `length:[0, id, command, parameters]` over a local socket."""

import base64
import io
import json
import shutil
import socket
import subprocess
import time
from contextlib import contextmanager

import pytest
from PIL import Image


class Firefox:
    def __init__(self, connection):
        self.stream, self.calls = connection.makefile("rwb"), 0
        self._read()  # it says hello

    def _read(self):
        length = int(b"".join(iter(lambda: self.stream.read(1), b":")))
        return json.loads(self.stream.read(length))

    def __call__(self, command, **parameters):
        self.calls += 1
        content = json.dumps([0, self.calls, command, parameters]).encode()
        self.stream.write(b"%d:%s" % (len(content), content))
        self.stream.flush()
        _, _, error, result = self._read()
        assert error is None, error
        return result

    def run(self, script):
        return self("WebDriver:ExecuteScript", script=script, args=[])["value"]

    def screenshot(self):
        content = base64.b64decode(self("WebDriver:TakeScreenshot", full=False)["value"])
        return Image.open(io.BytesIO(content)).convert("RGB")


@contextmanager
def firefox(profile):
    """Start Firefox on a port that it chooses, and end it."""
    program = shutil.which("firefox-esr") or shutil.which("firefox")
    if program is None:
        pytest.skip("no Firefox (Debian's package firefox-esr)")
    profile.mkdir()
    (profile / "user.js").write_text('user_pref("marionette.port", 0);\n')
    command = [program, "--headless", "--marionette", "--no-remote", "--profile", profile, "--window-size", "1600,1000"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with socket.create_connection(("127.0.0.1", _port(profile / "MarionetteActivePort")), timeout=60) as connection:
            driver = Firefox(connection)
            driver("WebDriver:NewSession")
            yield driver
            driver.stream.close()
    finally:
        process.terminate()
        process.wait(30)


def _port(file):
    for _ in range(600):
        if file.exists() and file.read_text():
            return int(file.read_text())
        time.sleep(0.1)
    pytest.fail("Firefox did not start within a minute")
