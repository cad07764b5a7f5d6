"""A medseg-node of our own, on the loopback, for as long as a block runs."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

START_S = 60.0
NODE = "from medseg_service.node.cli import main; main()"


@dataclass(kw_only=True, slots=True)
class RunningNode:
    """A node as a process, with the ports that it took."""

    config: Path
    log: Path
    process: subprocess.Popen[bytes] = field(init=False)
    dicom_port: int = 0
    url: str = ""

    def start(self) -> None:
        """Start it, and wait until it listens."""
        with self.log.open("ab") as output:
            begin = output.tell()
            self.process = subprocess.Popen([sys.executable, "-c", NODE, "--config", self.config], stderr=output)
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self.process.poll() is None:
            said = self.log.read_bytes()[begin:].decode(errors="replace")
            if found := re.search(r"DICOM on \S+ port (\d+) .*\n.*HTTP on (\S+)\n", said):
                self.dicom_port, self.url = int(found[1]), found[2]
                return
            time.sleep(0.02)
        self.kill()
        raise RuntimeError(f"the node did not start: {self.log.read_text(errors='replace')[-800:]}")

    def kill(self) -> None:
        """End it with SIGKILL."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """End it with SIGTERM, and return its exit status."""
        self.process.terminate()
        return self.process.wait(120)

    def is_ready(self) -> bool:
        """Tell whether it has loaded the model."""
        return httpx.get(f"{self.url}/health/ready").status_code == httpx.codes.OK


@contextmanager
def running_node(folder: Path, toml: str) -> Iterator[RunningNode]:
    """Run a node with a configuration, which is written into a folder; killed at the end of the block if it still runs."""
    (folder / "node.toml").write_text(toml)
    node = RunningNode(config=folder / "node.toml", log=folder / "node.log")
    node.start()
    try:
        yield node
    finally:
        if node.process.poll() is None:
            node.kill()
