"""The node's side of a worker: start it, give it a job, notice that it died."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from threading import Lock, Timer
from typing import Any

from medseg_runtime.errors import BackendError
from medseg_service.node.job import Order

START_S = 300.0
"""To load a model in."""


class WorkerDied(Exception):  # noqa: N818 - it is what happened
    """The process ended before it answered. The text says how."""


class JobFailed(Exception):  # noqa: N818 - it is what happened
    """The worker answered with an error."""

    def __init__(self, reason: dict[str, Any], *, permanent: bool) -> None:
        super().__init__(reason["problem"])
        self.reason = reason
        self.permanent = permanent


class WorkerProcess:
    """One worker, started when it is needed, and again after it died."""

    def __init__(self, config: Path) -> None:
        self._config = config
        self._process: subprocess.Popen[str] | None = None
        self._lock = Lock()
        self._stopped = False
        self._loaded = False

    @property
    def ready(self) -> bool:
        """Whether the process runs and has loaded the model."""
        return self._loaded and self._runs()

    def _runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the process if it does not run, and wait until it has loaded the model.

        Raises:
            BackendError: it cannot load the model.
            WorkerDied: it ended, or was stopped.
        """
        if self._runs():
            return
        self._loaded = False
        with self._lock:
            if self._stopped:
                raise WorkerDied("it was stopped")
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                [sys.executable, "-m", "medseg_service.node.worker", str(self._config)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                encoding="utf-8",
                start_new_session=True,  # Ctrl-C is the node's to answer
            )
        try:
            self._answer(START_S)
            self._loaded = True
        except JobFailed as error:
            self._death()
            raise BackendError(error.reason["problem"], error.reason["remedy"]) from error

    def segment(self, order: Order, series: Path, out: Path, timeout_s: float) -> dict[str, Any]:
        """Return the worker's summary of a job.

        Raises:
            JobFailed: it answered with an error.
            WorkerDied: it ended, or took too long and was killed.
        """
        self.start()
        process = self._process
        assert process is not None
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps({"order": asdict(order), "series": str(series), "out": str(out)}) + "\n")
            process.stdin.flush()
        except OSError as error:
            raise self._death() from error
        return self._answer(timeout_s)

    def stop(self) -> None:
        """Kill the process. A result that it had not published does not appear."""
        with self._lock:
            self._stopped = True
            process = self._process
        if process is not None:
            process.kill()
            process.wait()
            _close(process)

    def _answer(self, timeout_s: float) -> dict[str, Any]:
        process = self._process
        assert process is not None
        assert process.stdout is not None
        late: list[bool] = []

        def end() -> None:
            late.append(True)
            process.kill()

        timer = Timer(timeout_s, end)
        timer.start()
        try:
            line = process.stdout.readline()
        except (OSError, ValueError):  # closed by `stop`
            line = ""
        finally:
            timer.cancel()
        if not line.endswith("\n"):
            died = self._death()
            raise WorkerDied(f"it took more than {timeout_s:.0f} s") if late else died
        answer: dict[str, Any] = json.loads(line)
        if "failed" in answer:
            raise JobFailed(answer["failed"], permanent=answer["permanent"])
        return answer

    def _death(self) -> WorkerDied:
        process = self._process
        assert process is not None
        process.kill()
        code = process.wait()
        _close(process)
        return WorkerDied(f"it was ended by {signal.Signals(-code).name}" if code < 0 else f"it exited with {code}")


def _close(process: subprocess.Popen[str]) -> None:
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with suppress(OSError):
                stream.close()
