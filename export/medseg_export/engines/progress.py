"""Show the phases of a TensorRT build as progress bars: a build takes minutes."""

from __future__ import annotations

from typing import Any

from rich.progress import Progress, TaskID


def progress_monitor(library: Any, progress: Progress, graph: str) -> Any:
    """Return a monitor that shows one bar for each running phase of a build, below its parent phase.

    library: the module `tensorrt` or `tensorrt_rtx`, whose class the monitor extends.
    graph: name of the graph, shown on the outermost bar.
    """

    class Monitor(library.IProgressMonitor):  # type: ignore[misc]  # the library is not installed where types are checked
        """Called by the builder from its own threads. `cancel` ends the build at the next step."""

        def __init__(self) -> None:
            library.IProgressMonitor.__init__(self)  # pybind11 does not support super().__init__()
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
