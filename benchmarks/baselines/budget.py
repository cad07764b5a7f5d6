"""So many steps as fit into so much processor time.

Processor time and not the clock on the wall, so that a machine shared with others gives no less training. The steps are counted
out beforehand, by a trial: the decay of the learning rate then runs over the budget, and a run that is interrupted and resumed is
the run that nothing interrupted, to the last bit.
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

from benchmarks.json_record import JsonRecord
from medseg_trainer.data.working_set import BatchSource
from medseg_trainer.training.loop import run_stage
from medseg_trainer.training.run_files import write_atomically
from medseg_trainer.training.run_folder import RunFolder
from medseg_trainer.training.stages import Stage

CPU_MINUTES = 20.0
"""Of everything that is trained to be compared, unless said otherwise; validation comes on top."""
TRIAL_STEPS = 25
PLAN_NAME, SPENT_NAME = "plan.json", "cpu_seconds.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan(JsonRecord):
    """How a baseline is trained; written beside its weights when that starts."""

    contender: str
    cpu_minutes: float
    """That the steps were counted out for; validation comes on top."""
    steps: int
    batch_size: int
    learning_rate: float
    seed: int


def affordable_steps(fabric: Fabric, stage: Stage, source: BatchSource, cpu_minutes: float) -> int:
    """Return how many steps of a stage fit into a budget, from a trial on a copy of its module.

    The copy's first step is left out: the kernels are made ready in it.
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
def spending(run: Path) -> Iterator[None]:
    """Add the processor time of a block to what earlier starts of a run have spent, Ctrl-C or not."""
    start = time.process_time()
    try:
        yield
    finally:
        write_atomically(run / SPENT_NAME, json.dumps(round(spent(run) + time.process_time() - start, 3)) + "\n")


def spent(run: Path) -> float:
    """Return the processor seconds that a run has taken so far, validation included; not those of a start that was killed."""
    path = run / SPENT_NAME
    return float(json.loads(path.read_text())) if path.exists() else 0.0
