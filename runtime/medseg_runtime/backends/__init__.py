"""Inference engines behind one small interface; a table says which there are, and each is imported on first use."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from medseg_runtime.bundle import Bundle
from medseg_runtime.errors import BackendError, ParameterError
from medseg_runtime.sampler import SamplerTable

Float32 = npt.NDArray[np.float32]


class Backend(Protocol):
    """Runs the three networks of one bundle, one call at a time; threads that want to run side by side take a `clone` each.

    A condition or latents may stay where the engine works: hand them back to the backend that made them, and look only at logits.
    """

    name: str
    version: str
    precision: str
    """What the networks multiply in: float32, bfloat16 or float16."""

    def encode(self, image: Float32) -> Any:
        """Image (1, C, H, W) in [0, 1] => the condition of all its samples.

        Raises:
            BackendError: the engine failed, or returned NaN; likewise of the two below.
        """
        ...

    def denoise(
        self,
        condition: Any,
        noise: Float32,
        table: SamplerTable,
        features: Float32,
        fresh: Callable[[], Float32],
    ) -> Any:
        """Noise (N, Z, h, w) => N clean latents, by the S rows of a sampler's table.

        features: (S, T) of the network times, from `sampler.time_features`.
        fresh: returns the next noise (N, Z, h, w) where the table's `extra` is noise; called once per row, in order.
        """
        ...

    def decode(self, latents: Any) -> Float32:
        """Latents => mask logits (N, K, H, W)."""
        ...

    def clone(self) -> Backend:
        """Return another one on the same weights, with buffers of its own, for another thread."""
        ...

    def close(self) -> None:
        """Give back what the engine holds; neither the backend nor its clones can be used afterwards."""
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
