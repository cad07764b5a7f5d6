"""The grid of cells, and the pytest-benchmark run that measures it."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks.latency.backends import BackendChoice
from benchmarks.latency.plan import Plan
from benchmarks.latency.subject import Subject
from benchmarks.latency.timing import Timing

Stage = Literal["encode", "step", "decode", "end to end"]
USUAL_SAMPLES = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Setup:
    """A bundle on a backend, opened once for many cells."""

    subject: Subject
    backend: BackendChoice
    threads: int

    def __str__(self) -> str:
        return f"{self.subject.name}-{self.backend.backend}-{self.backend.precision}-{self.threads}t"


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One measured cell."""

    bundle: str
    backend: str
    precision: str
    threads: int
    stage: Stage
    samples: int
    steps: int
    """Denoiser steps; 0 if the denoiser does not run."""
    multiplications: int
    timing: Timing


def setups(subjects: Sequence[Subject], backends: Sequence[BackendChoice], cores: int) -> list[Setup]:
    """Return every bundle on every backend, with all cores and with one."""
    return [
        Setup(subject=subject, backend=backend, threads=threads)
        for subject in subjects
        for backend in backends
        for threads in dict.fromkeys((cores, 1))
    ]


def sizes(plan: Plan, setup: Setup, cores: int) -> list[tuple[int, int]]:
    """Return the pairs (N, S) at which a setup is measured end to end."""
    usual = min(USUAL_SAMPLES, max(plan.samples)), setup.subject.default_steps
    if plan.whole_grid:
        return [(n, s) for n in plan.samples for s in plan.steps]
    if setup.threads != cores or setup.subject.weights == "random":
        return list(dict.fromkeys([usual, (usual[0], min(plan.steps))]))
    return list(dict.fromkeys([usual, *((n, usual[1]) for n in plan.samples), *((usual[0], s) for s in plan.steps)]))


def measure_grid(plan: Plan, subjects: Sequence[Subject], work: Path) -> list[Cell]:
    """Measure every cell in a child process without torch.

    work: folder for the files that pass between the processes.
    """
    described, measured = work / "subjects.json", work / "grid.json"
    described.write_text(json.dumps([dataclasses.asdict(subject) for subject in subjects]), encoding="utf-8")
    command = [sys.executable, "-m", "pytest", str(Path(__file__).parent), "--quiet", "--timeout=0", "--benchmark-disable-gc",
               f"--plan={plan.name}", f"--subjects={described}", f"--benchmark-json={measured}", "--benchmark-quiet"]  # fmt: skip
    subprocess.run(command, cwd=Path(__file__).parents[2], check=True, stdout=sys.stderr)
    return list(_cells(json.loads(measured.read_text(encoding="utf-8"))))


def _cells(content: dict[str, list[dict[str, dict[str, list[float]]]]]) -> Iterator[Cell]:
    for entry in content["benchmarks"]:
        milliseconds = [1e3 * seconds for seconds in entry["stats"]["data"]]
        yield Cell(timing=Timing.of(milliseconds), **entry["extra_info"])  # type: ignore[arg-type]  # written in conftest.py
