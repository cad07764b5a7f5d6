"""Measure latency and write record, page and plot.

python -m benchmarks.latency [--plan quick|full|smoke] [--data DATA] [--even-if-busy]

Order: load check, peaks, contest, grid, starts, memory, agreement, folder. A run is refused on a busy machine unless --even-if-busy.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from benchmarks.common.machine import BUSY_SHARE, Machine, OtherLoad, inspect_machine
from benchmarks.common.page import RESULTS
from benchmarks.common.script import DATA, command_line, one_line_errors, today
from benchmarks.latency.agreement import compare
from benchmarks.latency.backends import available_backends
from benchmarks.latency.bundles import subject
from benchmarks.latency.contest import run_contest
from benchmarks.latency.folder import run_folder
from benchmarks.latency.grid import measure_grid
from benchmarks.latency.memory import peak_memory
from benchmarks.latency.ours import END_TO_END
from benchmarks.latency.page import page
from benchmarks.latency.peak import find_peak
from benchmarks.latency.plan import PLANS, Plan
from benchmarks.latency.real_images import val_images
from benchmarks.latency.report import Report
from benchmarks.latency.starts import measure_starts
from benchmarks.latency.targets import fastest

PROGRAM = "python -m benchmarks.latency"
T = TypeVar("T")


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plan", choices=list(PLANS), default="quick")
    parser.add_argument("--data", type=Path, default=DATA, help="folder with lidc-val-*.zip")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument(
        "--even-if-busy", action="store_true", help="measure on a busy machine; the page carries a warning"
    )
    given = parser.parse_args()
    machine = inspect_machine()
    if machine.taken_by_others > BUSY_SHARE and not given.even_if_busy:
        sys.exit(
            f"{PROGRAM}: error: other processes take {machine.taken_by_others:.0%} of this machine's processor time. "
            "Stop them, or measure with --even-if-busy."
        )
    with one_line_errors(PROGRAM):
        report = measure(PLANS[given.plan], machine, given.data, command_line(PROGRAM, parser, given))
        print(page(report).write(given.out))


class Progress:
    """Print each part of a run, and measure the load of other processes meanwhile."""

    def __init__(self) -> None:
        self.start = time.monotonic()
        self.taken_by_others: dict[str, float] = {}

    @property
    def seconds(self) -> float:
        """Wall time since the start."""
        return time.monotonic() - self.start

    def part(self, name: str, run: Callable[[], T]) -> T:
        """Run a part."""
        self.say(f"{self.seconds / 60:5.1f} min  {name}")
        with OtherLoad() as others:
            result = run()
        self.taken_by_others[name] = others.share
        return result

    @staticmethod
    def say(line: str) -> None:
        """Print a line to stderr."""
        print(line, file=sys.stderr, flush=True)


def measure(plan: Plan, machine: Machine, data: Path, command: str) -> Report:
    """Run every part of a plan."""
    progress, backends, cores = Progress(), available_backends(), machine.cores
    part = progress.part
    subjects = tuple(part("bundles", lambda: [subject(name) for name in plan.bundles]))
    precisions = ("float32", "bfloat16") if machine.has_bf16 else ("float32",)
    threads = plan.threads or cores
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        peaks = part(
            "peaks", lambda: [find_peak(p, n, plan.gemm_sides) for p in precisions for n in dict.fromkeys((1, cores))]
        )
        contest = part(
            "contest", lambda: run_contest(subjects[0], backends, plan, precisions=precisions, threads=threads, say=progress.say)
        )  # fmt: skip
        cells = part("grid", lambda: measure_grid(plan, subjects, work))
        starts = part("starts", lambda: measure_starts(plan.starts, work))
        memory = part(
            "memory", lambda: [peak_memory(s, b, n) for s in subjects for b in backends for n in plan.memory_samples]
        )
        images = val_images(data, max(plan.agreement_images, plan.folder_crops))
        agreement, run = [], None
        if images:
            bundle, best = subjects[0].path, fastest(contest)
            choice = next(b for b in backends if best.key == f"{b}, {END_TO_END}")
            agreement = part("agreement", lambda: compare(bundle, backends, images[: plan.agreement_images]))
            crops = images[: plan.folder_crops]
            run = part("folder", lambda: run_folder(bundle, choice, crops, plan.folder_rounds, work))
    return Report(
        date=today(),
        command=command,
        plan=plan.name,
        seconds=progress.seconds,
        machine=machine,
        subjects=subjects,
        peaks=tuple(peaks),
        contest=contest,
        cells=tuple(cells),
        starts=starts,
        memory=tuple(memory),
        agreement=tuple(agreement),
        folder=run,
        taken_by_others=progress.taken_by_others,
    )


if __name__ == "__main__":
    main()
