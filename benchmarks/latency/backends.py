"""The CPU backends that are installed here, in every precision that the processor supports."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

from medseg_runtime.backends.base import BackendName, PrecisionName
from medseg_runtime.backends.registry import BACKENDS, installed
from medseg_runtime.inference.segmenter import Segmenter


@dataclass(frozen=True, kw_only=True, slots=True)
class BackendChoice:
    """A backend in one precision."""

    backend: BackendName
    precision: PrecisionName

    def __str__(self) -> str:
        return f"{self.backend} {self.precision}"

    def open(self, bundle: Path, threads: int | None) -> Segmenter:
        """Load a bundle; threads None: all cores."""
        return Segmenter.load(bundle, backend=self.backend, precision=self.precision, threads=threads)


REFERENCE = BackendChoice(backend="onnxruntime", precision="float32")
"""The backend that the others are compared with."""


def available_backends() -> tuple[BackendChoice, ...]:
    """Return all of them, the reference first."""
    found = [
        BackendChoice(backend=cast("BackendName", name), precision=precision)
        for name, known in BACKENDS.items()
        if known.device == "cpu" and (backend := installed(name)) is not None
        for precision in sorted(backend.precisions(), reverse=True)  # float32 before bfloat16
    ]
    return tuple(sorted(found, key=lambda choice: choice != REFERENCE))
