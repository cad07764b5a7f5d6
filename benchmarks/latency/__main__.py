"""python -m benchmarks.latency [--plan quick|full|smoke]: measure, and write JSON, page and plot.

    machine idle? => peaks => contest => grid => starts => memory => agreement => folder => results/latency_CPU_DATE.*

python -m benchmarks.latency --page FILE.json writes page and plot of an earlier run again.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from benchmarks.latency import machine
from benchmarks.latency.agreement import compare
from benchmarks.latency.bars import best
from benchmarks.latency.bundles import subject
from benchmarks.latency.contest import hold
from benchmarks.latency.engines import engines
from benchmarks.latency.folder import run_folder
from benchmarks.latency.grid import fill
from benchmarks.latency.memory import peak_memory
from benchmarks.latency.ours import END_TO_END
from benchmarks.latency.page import page
from benchmarks.latency.peak import find_peak
from benchmarks.latency.plan import PLANS, Plan
from benchmarks.latency.plot import plot
from benchmarks.latency.real_images import val_images
from benchmarks.latency.report import Report
from benchmarks.latency.starts import measure_starts

ROOT = Path(__file__).parents[2]
T = TypeVar("T")


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plan", choices=list(PLANS), default="quick")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="folder with lidc-val-*.zip")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("--even-if-busy", action="store_true", help="measure on a busy machine; the page says so")
    parser.add_argument("--page", type=Path, metavar="JSON", help="only write page and plot of an earlier run")
    arguments = parser.parse_args()
    if arguments.page is not None:
        publish(Report.read(arguments.page), arguments.page.parent)
        return
    found = machine.look(ROOT)
    if found.taken_by_others > machine.BUSY_SHARE and not arguments.even_if_busy:
        sys.exit(
            f"benchmarks.latency: error: others take {found.taken_by_others:.0%} of this machine's processor time. "
            "Stop them, or measure all the same with --even-if-busy."
        )
    command = " ".join(["python -m benchmarks.latency", *sys.argv[1:]])
    report = measure(PLANS[arguments.plan], found, arguments.data, command)
    arguments.out.mkdir(parents=True, exist_ok=True)
    report.write(arguments.out / f"{report.stem}.json")
    publish(report, arguments.out)


def publish(report: Report, folder: Path) -> None:
    """Write the page and the plot."""
    (folder / f"{report.stem}.md").write_text(page(report), encoding="utf-8")
    plot(report, folder / f"{report.stem}.png")
    print(folder / f"{report.stem}.md")


def measure(plan: Plan, found: machine.Machine, data: Path, command: str) -> Report:
    """Run every suite."""
    start, others = time.monotonic(), dict[str, float]()

    def watched(part: str, run: Callable[[], T]) -> T:
        """Run a part, say so, and note what others took meanwhile."""
        _say(f"{(time.monotonic() - start) / 60:5.1f} min  {part}")
        with machine.Others() as watch:
            result = run()
        others[part] = watch.share
        return result

    subjects = tuple(watched("bundles", lambda: [subject(name) for name in plan.bundles]))
    shipped, available, cores = subjects[0], engines(), found.cores
    precisions = ("float32", "bfloat16") if found.has_bf16 else ("float32",)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        peaks = watched(
            "peaks", lambda: [find_peak(p, n, plan.gemm_sides) for p in precisions for n in dict.fromkeys((1, cores))]
        )
        contest = watched(
            "contest",
            lambda: hold(shipped, available, plan, has_bf16=found.has_bf16, threads=plan.threads or cores, say=_say),
        )
        cells = watched("grid", lambda: fill(plan, subjects, work))
        starts = watched("starts", lambda: measure_starts(plan.starts, work))
        memory = watched(
            "memory", lambda: [peak_memory(s, e, n) for s in subjects for e in available for n in plan.memory_samples]
        )
        images = val_images(data, max(plan.agreement_images, plan.folder_crops))
        agreement = (
            watched("agreement", lambda: compare(shipped.path, available, images[: plan.agreement_images]))
            if images
            else []
        )
        fastest = next(e for e in available if best(contest).key == f"{e}, {END_TO_END}")
        run = (
            watched(
                "folder",
                lambda: run_folder(shipped.path, fastest, images[: plan.folder_crops], plan.folder_rounds, work),
            )
            if images
            else None
        )
    return Report(
        date=datetime.now(UTC).date().isoformat(),
        command=command,
        plan=plan.name,
        seconds=time.monotonic() - start,
        machine=found,
        subjects=subjects,
        peaks=tuple(peaks),
        contest=contest,
        cells=tuple(cells),
        starts=starts,
        memory=tuple(memory),
        agreement=tuple(agreement),
        folder=run,
        taken_by_others=others,
    )


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
