"""The engines that can run here: every backend for the CPU that is installed, at every precision it has on this processor."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

from medseg_runtime.backends.base import BackendName, PrecisionName
from medseg_runtime.backends.registry import BACKENDS, installed
from medseg_runtime.inference.segmenter import Segmenter


@dataclass(frozen=True, kw_only=True, slots=True)
class Engine:
    """A backend at one precision."""

    backend: BackendName
    precision: PrecisionName

    def __str__(self) -> str:
        return f"{self.backend} {self.precision}"

    def open(self, bundle: Path, threads: int | None) -> Segmenter:
        """Load a bundle on it; threads None: all cores."""
        return Segmenter.load(bundle, backend=self.backend, precision=self.precision, threads=threads)


REFERENCE = Engine(backend="onnxruntime", precision="float32")
"""What all others are held against."""


def engines() -> tuple[Engine, ...]:
    """Return them, the reference first."""
    found = [
        Engine(backend=cast("BackendName", name), precision=precision)
        for name, known in BACKENDS.items()
        if known.device == "cpu" and (backend := installed(name)) is not None
        for precision in sorted(backend.precisions(), reverse=True)  # float32 before bfloat16
    ]
    return tuple(sorted(found, key=lambda engine: engine != REFERENCE))
