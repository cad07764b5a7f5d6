"""What TensorRT tells while it builds: its log, which is all it says of an error, and its progress, without which minutes pass in silence.

Both are subclasses of classes of the library, which is `tensorrt` or `tensorrt_rtx`: so they are made on request.
"""

from __future__ import annotations

from collections import deque
from functools import cache
from types import ModuleType
from typing import Any

from rich.progress import Progress, TaskID

KEPT_ERRORS = 50
SHOWN_ERRORS = 3


@cache
def logger(trt: ModuleType) -> Any:
    """Return the collecting logger of a library: always the same one, for TensorRT takes the first of a process and ignores others.

    Nothing is printed: its `errors` go into the exception that a failed call becomes.
    """

    class Collector(trt.ILogger):  # type: ignore[misc]  # Any
        """Keeps the latest errors."""

        def __init__(self) -> None:
            super().__init__()
            self.errors: deque[str] = deque(maxlen=KEPT_ERRORS)

        def log(self, severity: Any, msg: str) -> None:
            if severity <= trt.ILogger.ERROR:
                self.errors.append(" ".join(msg.split()))

        def last_errors(self) -> str:
            """Return the last distinct errors in their order, as one line, and forget them."""
            latest = list(dict.fromkeys(self.errors))[-SHOWN_ERRORS:]
            self.errors.clear()
            return "; ".join(latest) or "it logged no reason"

    return Collector()


def progress_monitor(trt: ModuleType, progress: Progress, graph: str) -> Any:
    """Return a monitor that draws one bar for each phase of a build that runs, below the phase it belongs to.

    graph: what is built, for the outermost bar.
    """

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]  # Any
        """Called by the builder, from threads of its own; `cancel` ends the build at its next step."""

        def __init__(self) -> None:
            super().__init__()
            self._tasks: dict[str, tuple[TaskID, int]] = {}
            self._cancelled = False

        def cancel(self) -> None:
            self._cancelled = True

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            depth = self._tasks[parent_phase][1] + 1 if parent_phase in self._tasks else 0
            title = "  " * depth + phase_name if depth else f"{graph}: {phase_name}"
            self._tasks[phase_name] = progress.add_task(title, total=num_steps), depth

        def step_complete(self, phase_name: str, step: int) -> bool:
            progress.update(self._tasks[phase_name][0], completed=step + 1)
            return not self._cancelled

        def phase_finish(self, phase_name: str) -> None:
            progress.remove_task(self._tasks.pop(phase_name)[0])

    return Monitor()
