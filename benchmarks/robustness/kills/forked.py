"""A program as a fork of this process, which has imported what it needs: torch alone takes longer than a small training."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from typing import IO, NoReturn


class Forked:
    """A child that runs a program; with the methods of `subprocess.Popen` that the trials use."""

    def __init__(self, program: Callable[[], object], arguments: Sequence[str], errors: IO[str]) -> None:
        self.pid, self.returncode = os.fork(), None
        if self.pid == 0:
            _run(program, arguments, errors)

    returncode: int | None

    def poll(self) -> int | None:
        """Return the exit status, negative for a signal; None while the child runs."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self, timeout: float) -> int:
        """Wait for the end.

        Raises:
            TimeoutExpired: the child still runs.
        """
        deadline = time.monotonic() + timeout
        while (status := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("a fork", timeout)
            time.sleep(0.01)
        return status

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal, unless the child has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)


def _run(program: Callable[[], object], arguments: Sequence[str], errors: IO[str]) -> NoReturn:
    """Run the program in the child; nothing returns to the parent's code."""
    status = 70
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(errors.fileno(), 2)
        sys.argv = list(arguments)
        program()
    except SystemExit as end:
        status = int(end.code or 0)
    except BaseException:  # noqa: BLE001 - as the interpreter does at its end
        traceback.print_exc(file=errors)
        errors.flush()
    finally:
        sys.stderr.flush()
        os._exit(status)
