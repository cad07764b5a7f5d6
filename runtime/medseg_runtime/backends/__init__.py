"""Inference engines behind one small interface; a table says which there are, and each is imported on first use."""

from __future__ import annotations

from importlib import import_module
from typing import Protocol

import numpy as np
import numpy.typing as npt

from medseg_runtime.bundle import Bundle, GraphName
from medseg_runtime.errors import BackendError, ParameterError

Float32 = npt.NDArray[np.float32]


class Backend(Protocol):
    """Runs the three graphs of one bundle."""

    name: str
    version: str

    def run(self, graph: GraphName, feeds: dict[str, Float32]) -> tuple[Float32, ...]:
        """Run a graph on float32 arrays, named and shaped as in bundle.json, and return its outputs in that order.

        Raises:
            BackendError: the engine failed.
        """
        ...

    def close(self) -> None:
        """Give back what the engine holds; the backend cannot be used afterwards."""
        ...


BACKENDS: dict[str, tuple[str, str, str]] = {
    "onnxruntime": ("medseg_runtime.backends.onnxrt", "OnnxRuntimeBackend", "cpu"),
}
"""Name -> (module, class, extra that installs it), the preferred first."""


def open_backend(name: str, bundle: Bundle) -> Backend:
    """Start an engine on a bundle.

    name: a key of `BACKENDS`, or `auto` for the first that is installed.

    Raises:
        ParameterError: no backend of that name.
        BackendError: it is not installed, or refuses the graphs.
    """
    if name != "auto" and name not in BACKENDS:
        raise ParameterError(f"there is no backend {name!r}", f"Use one of: auto, {', '.join(BACKENDS)}.")
    for module, cls, _ in BACKENDS.values() if name == "auto" else [BACKENDS[name]]:
        try:
            found = getattr(import_module(module), cls)
        except (ImportError, AttributeError):  # an AttributeError: a damaged package, which medseg-doctor explains
            continue
        backend: Backend = found(bundle)
        return backend
    wanted = "no inference engine" if name == "auto" else name
    extra = next(iter(BACKENDS.values()))[2] if name == "auto" else BACKENDS[name][2]
    raise BackendError(
        f"{wanted} is installed" if name == "auto" else f"{wanted} is not installed",
        f"Run `pip install 'medseglatdiff[{extra}]'`.",
    )
