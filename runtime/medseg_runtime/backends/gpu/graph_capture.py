"""When to launch kernels one by one, and when as a CUDA graph.

A graph saves one launch per kernel, some microseconds each, which is most of the time of a small network. Capturing costs about as
much as one or two runs, and must not include an engine's first run, in which it initializes itself. So the first image of a kind is
launched plainly, the second is captured, and all later ones are replayed.
"""

from __future__ import annotations

from collections.abc import Callable

from medseg_runtime.backends.gpu.capture_policy import CapturePolicy
from medseg_runtime.backends.gpu.cuda import Graph, Stream
from medseg_runtime.errors import BackendError


class Replay:
    """Queue the same launches each time it is called, as a graph from the second call on."""

    def __init__(self, launch: Callable[[], None], stream: Stream, policy: CapturePolicy) -> None:
        """launch: queues the launches; must queue the same ones each time, and not wait."""
        self._launch = launch
        self._stream = stream
        self._policy = policy
        self._graph: Graph | None = None
        self._warm = False

    def __call__(self) -> None:
        """Queue the launches.

        Raises:
            BackendError: a launch was refused.
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
