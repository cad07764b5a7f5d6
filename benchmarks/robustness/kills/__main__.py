"""Kill commands at random times: what they leave is the old or the new, whole, and the next run goes on.

python -m benchmarks.robustness.kills folder --kills 500    # the same command goes on after an interruption
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from benchmarks.common.script import today
from benchmarks.robustness.kills.subjects import SUBJECTS
from benchmarks.robustness.kills.trials import Kills, kill_often


def main() -> None:
    """Print the record; exit 1 if it has a fault."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("subject", choices=SUBJECTS)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--parts", type=Path, default=Path("robustness"), help="Folder of the records.")
    given = parser.parse_args()
    given.parts.mkdir(exist_ok=True)
    path = given.parts.resolve() / f"kills-{given.subject}.json"
    command = f"python -m benchmarks.robustness.kills {given.subject} --kills {given.kills} --seed {given.seed}"
    record = (
        Kills.read(path)
        if path.exists()
        else Kills(subject=given.subject, command=command, date=today(), seed=given.seed)
    )
    record = kill_often(SUBJECTS[given.subject](), record, given.kills, path)
    print(json.dumps({"killed": record.killed, "found": record.found, "faults": record.faults}))
    sys.exit(any(record.faults.values()))


if __name__ == "__main__":
    main()
