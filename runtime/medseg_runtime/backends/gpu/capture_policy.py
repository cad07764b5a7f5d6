"""Whether launches become CUDA graphs, and what the user hears when they cannot."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

from medseg_runtime.errors import BackendError


class CudaGraphWarning(RuntimeWarning):
    """Launches could not be captured: the masks are the same, each image takes longer."""


@dataclass(slots=True)
class CapturePolicy:
    """Whether to capture; one for a backend and its clones."""

    wanted: bool
    failure: str | None = None
    """What went wrong, once something has; nothing is captured from then on."""

    @property
    def active(self) -> bool:
        """Capture what comes."""
        return self.wanted and self.failure is None

    @property
    def launches(self) -> str:
        """How kernels are launched, as the end of a sentence."""
        return "in CUDA graphs" if self.active else f"one by one ({self.failure or 'CUDA graphs are off'})"

    def give_up(self, error: BackendError) -> None:
        """Go on without graphs, and say so, once."""
        self.failure = error.problem
        warnings.warn(
            f"CUDA graphs are off, and images take longer: {error.problem}. "
            "Pass cuda_graphs=False to do without them and without this warning.",
            CudaGraphWarning,
            stacklevel=2,
        )
