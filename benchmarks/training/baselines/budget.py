"""Convert a budget of processor time into a number of training steps.

Processor time, not wall time: a busy machine then gives no less training. A trial fixes the number of steps before training starts, so
the learning rate decays over the budget, and a resumed run ends with the same weights, bit for bit, as an uninterrupted one.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lightning_fabric import Fabric
from rich.console import Console

from benchmarks.common.json_record import JsonRecord
from medseg_trainer.data.working_set import BatchSource
from medseg_trainer.training.loop import run_stage
from medseg_trainer.training.run_files import write_atomically
from medseg_trainer.training.run_folder import RunFolder
from medseg_trainer.training.stages import Stage

CPU_MINUTES = 20.0
"""Default budget of each training; validation is extra."""
TRIAL_STEPS = 25
PLAN_NAME, CPU_SECONDS_NAME = "plan.json", "cpu_seconds.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan(JsonRecord):
    """How a baseline is trained; written into its run folder before the first step."""

    contender: str
    cpu_minutes: float
    """Budget that `steps` was computed for; validation is extra."""
    steps: int
    batch_size: int
    learning_rate: float
    seed: int


def affordable_steps(fabric: Fabric, stage: Stage, source: BatchSource, cpu_minutes: float) -> int:
    """Return how many steps of a stage fit into a budget, from a trial on a copy of its module.

    The first step is subtracted: it includes the initialisation of kernels.
    """
    quiet = Console(quiet=True)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "state").mkdir()
        seconds = []
        for steps in (1, 1 + TRIAL_STEPS):
            trial = dataclasses.replace(
                stage,
                module=copy.deepcopy(stage.module),
                optimisation=dataclasses.replace(stage.optimisation, steps=steps),
                validate=None,
                name=f"trial-{steps}",
            )
            start = time.process_time()
            run_stage(fabric, RunFolder(Path(folder)), trial, source, quiet)
            seconds.append(time.process_time() - start)
    return max(1, round(60.0 * cpu_minutes * TRIAL_STEPS / max(seconds[1] - seconds[0], 1e-9)))


@contextmanager
def recorded_cpu_seconds(run: Path) -> Iterator[None]:
    """Add the processor time of a `with` block to the run's total, however the block ends."""
    start = time.process_time()
    try:
        yield
    finally:
        write_atomically(
            run / CPU_SECONDS_NAME, json.dumps(round(cpu_seconds(run) + time.process_time() - start, 3)) + "\n"
        )


def cpu_seconds(run: Path) -> float:
    """Return the processor seconds of a run so far, validation included. Those of a killed process are not counted."""
    path = run / CPU_SECONDS_NAME
    return float(json.loads(path.read_text())) if path.exists() else 0.0
