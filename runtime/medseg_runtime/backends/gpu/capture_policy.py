"""Whether launches are captured as CUDA graphs, and the warning when that fails."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

from medseg_runtime.errors import BackendError


class CudaGraphWarning(RuntimeWarning):
    """Launches could not be captured. The masks are the same; each image takes longer."""


@dataclass(slots=True)
class CapturePolicy:
    """Whether to capture. A backend and its clones share one."""

    wanted: bool
    failure: str | None = None
    """Why the first capture failed; from then on nothing is captured."""

    @property
    def active(self) -> bool:
        """Whether later launches are captured."""
        return self.wanted and self.failure is None

    @property
    def launches(self) -> str:
        """How kernels are launched, as the end of a sentence."""
        return "in CUDA graphs" if self.active else f"one by one ({self.failure or 'CUDA graphs are off'})"

    def give_up(self, error: BackendError) -> None:
        """Continue without graphs, and warn once."""
        self.failure = error.problem
        warnings.warn(
            f"CUDA graphs are off, and images take longer: {error.problem}. "
            "Pass cuda_graphs=False, or --no-cuda-graphs.",
            CudaGraphWarning,
            stacklevel=2,
        )
