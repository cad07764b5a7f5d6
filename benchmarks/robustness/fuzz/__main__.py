"""Fuzz all that reads files of others, guided by coverage: a record, a page and the curves.

python -m benchmarks.robustness.fuzz                            # 1,000,000 inputs, about an hour on two cores
python -m benchmarks.robustness.fuzz DICOM PNG --share 0.1      # two targets, a tenth of their inputs
python -m benchmarks.robustness.fuzz --folder FOLDER            # goes on with what is there

Each target runs in a process of its own. One that an input ends is started again, and the input counts as a finding.
It needs Linux on x86-64, Python 3.11 to 3.13 and atheris: `make fuzz-guided` installs it.
"""

from __future__ import annotations

import argparse
import math
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.common.machine import inspect_machine
from benchmarks.common.page import RESULTS
from benchmarks.common.script import ROOT, command_line, one_line_errors, today
from benchmarks.robustness.fuzz.counts import read_counts
from benchmarks.robustness.fuzz.page import page
from benchmarks.robustness.fuzz.report import Finding, FuzzReport, Outcome, Point, outcome_in, write_outcome
from benchmarks.robustness.fuzz.targets import TARGETS

PROGRAM = "python -m benchmarks.robustness.fuzz"
PARTS = 8
"""Processes for one target, if no input ends one: what a library leaks is freed, and a campaign that is stopped goes on."""
STARTS = 20
"""Most processes besides."""
POINTS = 60
"""Of a curve."""
STATUS = re.compile(r"^#(\d+)\s+(\S+)\s+cov: (\d+) ft: (\d+)")
"""A line of libFuzzer: executions, event, edges, features."""
BY_LIBFUZZER = {
    "crash": "ended the process",
    "timeout": "took too long",
    "oom": "took too much memory",
    "leak": "leaked memory",
}


def main() -> None:
    """Write record, page and plot; exit 1 if there are findings."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", help=f"Of: {', '.join(TARGETS)}. Default: all.")
    parser.add_argument("--share", type=float, default=1.0, help="Of each target's inputs.")
    parser.add_argument("--folder", type=Path, help="Where inputs and findings are kept.")
    parser.add_argument("--workers", type=int, default=2, help="Processes at once.")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    if unknown := set(given.targets) - TARGETS.keys():
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    folder = given.folder or Path(tempfile.mkdtemp(prefix="fuzz-"))
    with one_line_errors(PROGRAM):
        machine = inspect_machine()
        with ThreadPoolExecutor(given.workers) as pool:
            names = sorted(given.targets or TARGETS, key=lambda name: TARGETS[name].runs)
            list(pool.map(lambda name: _fuzz(name, folder, given.share), names))
        outcomes = {name: found for name in TARGETS if (found := outcome_in(folder / name)) is not None}
        report = FuzzReport(
            date=today(),
            command=command_line(PROGRAM, parser, given),
            machine=machine,
            seconds=sum(outcome.seconds for outcome in outcomes.values()),
            targets=outcomes,
        )
        sys.stdout.write(f"{page(report).write(given.out)}, findings in {folder}\n")
    sys.exit(any(outcome.findings for outcome in outcomes.values()))


def _fuzz(name: str, folder: Path, share: float) -> None:
    """Fuzz a target until it has had its inputs, in several processes one after the other. Keep what happened after each."""
    into, wanted = folder / name, max(round(TARGETS[name].runs * share), 100)
    into.mkdir(parents=True, exist_ok=True)
    outcome = outcome_in(into) or Outcome()
    while outcome.runs < wanted and outcome.processes < PARTS + STARTS:
        runs = min(math.ceil(wanted / PARTS), wanted - outcome.runs)
        outcome = _went_on(outcome, into, _one_process(name, into, runs, seed=outcome.processes + 1))
        write_outcome(into, outcome)
    sys.stderr.write(f"{name}: {outcome.runs:,} inputs in {outcome.seconds:.0f} s, {len(outcome.findings)} findings\n")


def _went_on(outcome: Outcome, folder: Path, found: tuple[list[Point], float]) -> Outcome:
    """Return the outcome after one more process; found: its curve and its seconds."""
    points, seconds = found
    counts = read_counts(folder / "counts")
    curve = [*outcome.curve, *(Point(outcome.runs + each.executions, each.edges, each.features) for each in points)]
    return Outcome(
        runs=curve[-1].executions if curve else 0,
        accepted=outcome.accepted + counts.read,
        refused=outcome.refused + counts.refused,
        seconds=round(outcome.seconds + seconds, 1),
        longest_ms=max(outcome.longest_ms, counts.longest_ms),
        processes=outcome.processes + 1,
        curve=tuple(_thinned(curve)),
        findings=tuple(_findings(folder / "findings")),
    )


def _one_process(name: str, folder: Path, runs: int, seed: int) -> tuple[list[Point], float]:
    """Run libFuzzer once; return its curve and its seconds."""
    child = [sys.executable, "-m", "benchmarks.robustness.fuzz.child", name]
    options = ["--folder", str(folder), "--runs", str(runs), "--seed", str(seed)]
    start = time.perf_counter()
    with (folder / f"log.{seed}").open("wb") as log:
        subprocess.run([*child, *options], cwd=ROOT, stdout=log, stderr=log, check=False)
    log_text = (folder / f"log.{seed}").read_text(encoding="utf-8", errors="replace")
    return _curve_of(log_text), time.perf_counter() - start


def _curve_of(log: str) -> list[Point]:
    """Return the curve that libFuzzer printed."""
    found = map(STATUS.match, log.splitlines())
    return [Point(int(match[1]), int(match[3]), int(match[4])) for match in found if match]


def _thinned(curve: list[Point]) -> Iterator[Point]:
    """Keep the first and the last point, and some between, evenly by number."""
    for number in range(min(POINTS, len(curve))):
        yield curve[round(number * (len(curve) - 1) / max(min(POINTS, len(curve)) - 1, 1))]


def _findings(folder: Path) -> Iterator[Finding]:
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.suffix == ".txt":
            yield Finding(path.stem, path.read_text(errors="replace").splitlines()[0])
        elif path.suffix != ".bin":
            yield Finding(path.name, BY_LIBFUZZER.get(path.name.partition("-")[0], "of an unknown kind"))


if __name__ == "__main__":
    main()
