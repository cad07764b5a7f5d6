"""medseg-node: listen for images and for what points at them, segment, and send the results on."""

from __future__ import annotations

import logging
import os
import signal
import sys
from pathlib import Path
from threading import Event
from typing import Annotated, NoReturn

import typer

from medseg_runtime.commands.program import run_command, say

PROGRAM = "medseg-node"
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def main() -> NoReturn:
    """Entry point; exits the process."""
    run_command(app, PROGRAM, extras="cpu,node")


@app.command()
def node(
    config: Annotated[Path, typer.Option(help="The TOML file that says everything.", metavar="FILE")],
    check: Annotated[bool, typer.Option("--check", help="Check the file and what it names, and end.")] = False,
) -> None:
    """Receive images by DICOM, segment what a report or a request points at, and send the results to an archive.

    Ends on SIGTERM or Ctrl-C: what is in flight is answered, and the current job is finished or queued again.

    Research software, not a medical device.
    """
    from medseg_service.node.check import check_config
    from medseg_service.node.config import NodeConfig
    from medseg_service.node.node import Node
    from medseg_service.toml_file import read_toml

    os.umask(0o077)  # all that the node writes is of patients
    settings = read_toml(config, NodeConfig)
    if check:
        check_config(settings)
        say("the configuration can be used")
        return
    _log_to_stderr()
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    running = Node(config, settings)
    running.start()
    dicom = settings.dicom
    say(f"{PROGRAM}: DICOM on {dicom.host} port {running.dicom.port} as {dicom.ae_title}", err=True)
    say(f"{PROGRAM}: HTTP on {running.http.url}", err=True)
    stop.wait()
    say(f"{PROGRAM}: stopping", err=True)
    running.stop()


def _log_to_stderr() -> None:
    """Print our own log lines. Those of libraries may quote a data set."""
    logging.lastResort = None
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    ours = logging.getLogger("medseg_service")
    ours.addHandler(handler)
    ours.setLevel(logging.INFO)
    ours.propagate = False
