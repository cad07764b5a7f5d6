"""A medseg-node of our own, on the loopback, for as long as a block runs."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx

START_S = 120.0
LAUNCHER = """
import os, signal, sys
import medseg_service.node.node, medseg_service.node.cli
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
config, log = sys.argv[1:]
for _ in sys.stdin:
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.argv = ["medseg-node", "--config", config]
        medseg_service.node.cli.main()
    print(child, flush=True)
"""
"""A process that has imported the node, and forks one for each line: the imports are most of what a start takes."""


@dataclass(kw_only=True, slots=True)
class RunningNode:
    """A node as a process, with the ports that it took."""

    config: Path
    log: Path
    launcher: subprocess.Popen[str] = field(init=False)
    pid: int = 0
    dicom_port: int = 0
    url: str = ""

    def __post_init__(self) -> None:
        self.launcher = subprocess.Popen(
            [sys.executable, "-c", LAUNCHER, self.config, self.log],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self) -> None:
        """Start it, and wait until it listens."""
        assert self.launcher.stdin is not None
        assert self.launcher.stdout is not None
        begin = self.log.stat().st_size if self.log.exists() else 0
        self.launcher.stdin.write("\n")
        self.launcher.stdin.flush()
        self.pid = int(self.launcher.stdout.readline())
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self.runs():
            said = self.log.read_bytes()[begin:].decode(errors="replace") if self.log.exists() else ""
            if found := re.search(r"DICOM on \S+ port (\d+) .*\n.*HTTP on (\S+)\n", said):
                self.dicom_port, self.url = int(found[1]), found[2]
                return
            time.sleep(0.02)
        raise RuntimeError(f"the node did not start: {self.log.read_text(errors='replace')[-800:]}")

    def runs(self) -> bool:
        """Tell whether the process is there."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, 0)
            return True
        return False

    def kill(self) -> None:
        """End it with SIGKILL."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it with SIGTERM, and wait until it has ended."""
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)
        deadline = time.monotonic() + START_S
        while self.runs():
            if time.monotonic() > deadline:
                raise RuntimeError(f"the node does not end on {number.name}")
            time.sleep(0.02)

    def is_ready(self) -> bool:
        """Tell whether it has loaded the model."""
        return httpx.get(f"{self.url}/health/ready").status_code == httpx.codes.OK


@contextmanager
def running_node(folder: Path, toml: str) -> Iterator[RunningNode]:
    """Run a node with a configuration, which is written into a folder; killed at the end of the block if it still runs."""
    (folder / "node.toml").write_text(toml)
    node = RunningNode(config=folder / "node.toml", log=folder / "node.log")
    try:
        node.start()
        yield node
    finally:
        node.kill()
        node.launcher.communicate()
