"""Write the page from what `node_kills` printed, a file a run.

python -m benchmarks.robustness.node_page RUN.json ...
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

from benchmarks.common.machine import inspect_machine
from benchmarks.common.page import RESULTS, Page, Record, Section
from benchmarks.common.script import today
from benchmarks.common.tables import table

PROGRAM = "python -m benchmarks.robustness.node_page"
FAULTS = (
    "jobs lost", "jobs dead", "jobs with two results", "objects lost after an answer", "objects missing in the archive",
    "objects that differ in the archive", "objects that nobody made",
)  # fmt: skip
"""What must not be, in the words of a run's counts."""
FIGURES = (
    "kills", "jobs", "jobs sent more than once", "requests without an answer", "objects acknowledged", "objects in the archive", *FAULTS,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeKills(Record):
    """The counts of all runs."""

    runs: tuple[dict[str, int], ...]
    """Figure -> count."""


def page(record: NodeKills) -> Page:
    """Lay out the counts."""
    numbers = [str(number) for number in range(1, len(record.runs) + 1)]
    rows = [
        (name, *(f"{run[name]:,}" for run in record.runs), f"{sum(run[name] for run in record.runs):,}")
        for name in FIGURES
    ]
    minutes = (*(f"{run['seconds'] / 60:.0f}" for run in record.runs), f"{(record.seconds or 0) / 60:.0f}")
    return Page(
        kind="node",
        subject="lidc-nodule",
        title="Kills of the node",
        record=record,
        data="pydicom's CT_small: no image of a patient",
        seed=0,
        introduction=(
            ("`medseg-node` is killed (SIGKILL) at random moments up to 10 s after it listens, while up to 24 jobs are open, and started "
            "again on the same state folder. Images come by C-STORE, jobs by HTTP, results go to an Orthanc by STOW-RS. At the end every "
            "job is waited for, and jobs, audit file, state folder and archive are compared."),
        ),
        sections=(
            Section("Counts", (table(("what", *(f"run {n}" for n in numbers), "all"), [*rows, ("minutes", *minutes)]),)),
            Section("Commands", ("Run n: `python -m benchmarks.robustness.node_kills --seed N` with n - 1, ended by `--minutes`.",)),
        ),
    )  # fmt: skip


def main() -> None:
    """Write record and page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN.json")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    runs = tuple(json.loads(path.read_text(encoding="utf-8")) for path in given.runs)
    record = NodeKills(
        date=today(),
        command=f"{PROGRAM} {' '.join(f'RUN{n}.json' for n in range(1, len(runs) + 1))}",
        machine=inspect_machine(),
        seconds=sum(run["seconds"] for run in runs),
        runs=runs,
    )
    print(page(record).write(given.out))


if __name__ == "__main__":
    main()
