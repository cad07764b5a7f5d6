"""Write the page from the records of all parts.

python -m benchmarks.robustness --parts PARTS    # where kills, faults and stream wrote their records
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.common.page import RESULTS
from benchmarks.common.script import command_line
from benchmarks.robustness.page import page
from benchmarks.robustness.report import gather

PROGRAM = "python -m benchmarks.robustness"


def main() -> None:
    """Write record, page and curves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    print(page(gather(given.parts, command_line(PROGRAM, parser, given))).write(given.out))


if __name__ == "__main__":
    main()
