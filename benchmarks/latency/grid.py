"""The grid of cells: which there are, the pytest-benchmark run that fills them, and what is kept of its JSON."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks.latency.engines import Engine
from benchmarks.latency.plan import Plan
from benchmarks.latency.subject import Subject
from benchmarks.latency.timing import Timing

Stage = Literal["encode", "step", "decode", "end to end"]
USUAL_SAMPLES = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Setup:
    """What is opened once for many cells."""

    subject: Subject
    engine: Engine
    threads: int

    def __str__(self) -> str:
        return f"{self.subject.name}-{self.engine.backend}-{self.engine.precision}-{self.threads}t"


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
    """Of the denoiser; 0 where it does not run."""
    multiplications: int
    timing: Timing


def setups(subjects: Sequence[Subject], engines: Sequence[Engine], cores: int) -> list[Setup]:
    """Return all bundles on all engines, with all cores and with one."""
    return [
        Setup(subject=subject, engine=engine, threads=threads)
        for subject in subjects
        for engine in engines
        for threads in dict.fromkeys((cores, 1))
    ]


def sizes(plan: Plan, setup: Setup, cores: int) -> list[tuple[int, int]]:
    """Return the pairs (N, S) that a setup is measured at, end to end."""
    usual = min(USUAL_SAMPLES, max(plan.samples)), setup.subject.default_steps
    if plan.whole_grid:
        return [(n, s) for n in plan.samples for s in plan.steps]
    if setup.threads != cores or setup.subject.weights == "random":
        return list(dict.fromkeys([usual, (usual[0], min(plan.steps))]))
    return list(dict.fromkeys([usual, *((n, usual[1]) for n in plan.samples), *((usual[0], s) for s in plan.steps)]))


def fill(plan: Plan, subjects: Sequence[Subject], work: Path) -> list[Cell]:
    """Measure every cell in a process of its own, which never loads torch.

    work: folder for what passes between the processes.
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
