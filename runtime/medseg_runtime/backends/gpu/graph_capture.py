"""When to run launches one by one and when as a CUDA graph, apart from what is launched.

A graph saves the host a launch per kernel, some microseconds each, which is most of the time of a small network. Capturing costs
about as much as a run or two, and engines prepare themselves in their first run, which a capture would not survive: so the
first image runs plainly, the second is captured, and the third and all others of its kind are replayed.
"""

from __future__ import annotations

from collections.abc import Callable

from medseg_runtime.backends.gpu.capture_policy import CapturePolicy
from medseg_runtime.backends.gpu.cuda import Graph, Stream
from medseg_runtime.errors import BackendError


class Replay:
    """Queues the same launches again and again, as a graph from the second time on."""

    def __init__(self, launch: Callable[[], None], stream: Stream, policy: CapturePolicy) -> None:
        """Take what queues the launches; it must always queue the same, and wait for nothing."""
        self._launch = launch
        self._stream = stream
        self._policy = policy
        self._graph: Graph | None = None
        self._warm = False

    def __call__(self) -> None:
        """Queue the launches.

        Raises:
            BackendError: one was refused.
        """
        if self._warm and self._graph is None and self._policy.active:
            self._capture()
        if self._graph is not None:
            self._graph.launch(self._stream)
        else:
            self._launch()
            self._warm = True

    def _capture(self) -> None:
        try:
            with self._stream.capture() as graphs:
                self._launch()
        except BackendError as error:
            self._policy.give_up(error)
        else:
            (self._graph,) = graphs

    def close(self) -> None:
        """Destroy the graph."""
        if self._graph is not None:
            self._graph.close()
        self._graph, self._warm = None, False
