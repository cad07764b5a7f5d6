"""Render page and plot of a stored record again.

python -m benchmarks.render results/latency_CPU_DATE.json
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from benchmarks.accuracy import by_steps, growth, identity, representatives, samples_auto
from benchmarks.common.page import Page
from benchmarks.gpu import page as gpu
from benchmarks.gpu.report import Report as GpuReport
from benchmarks.latency import page as latency
from benchmarks.latency.report import Report as LatencyReport
from benchmarks.robustness import node_page
from benchmarks.robustness import page as robustness
from benchmarks.robustness.fuzz.page import read_report as read_fuzz_report
from benchmarks.robustness.report import Report as RobustnessReport
from benchmarks.training.ablations import page as ablations
from benchmarks.training.ablations.report import Report as AblationReport
from benchmarks.training.baselines import page as baselines
from benchmarks.training.baselines.report import Report as BaselineReport

READERS: dict[str, Callable[[Path], Page]] = {
    "ablations": lambda path: ablations.page(AblationReport.read(path)),
    "accuracy": lambda path: by_steps.page(by_steps.Accuracy.read(path)),
    "baselines": lambda path: baselines.page(BaselineReport.read(path)),
    "fuzz": read_fuzz_report,
    "gpu": lambda path: gpu.page(GpuReport.read(path)),
    "growth": lambda path: growth.page(growth.GrowthOfNodules.read(path)),
    "identity": lambda path: identity.page(identity.IdentityOfSamples.read(path)),
    "latency": lambda path: latency.page(LatencyReport.read(path)),
    "node": lambda path: node_page.page(node_page.NodeKills.read(path)),
    "recipe": lambda path: ablations.page(AblationReport.read(path)),
    "representatives": lambda path: representatives.page(representatives.Comparison.read(path)),
    "robustness": lambda path: robustness.page(RobustnessReport.read(path)),
    "samples_auto": lambda path: samples_auto.page(samples_auto.SamplesAuto.read(path)),
}
"""First part of a record's file name => its page."""


def read_page(path: Path) -> Page:
    """Lay out the page of a record.

    Raises:
        StopIteration: the file name starts with no known kind.
        TypeError: the record is of another version.
    """
    kind = next(kind for kind in READERS if path.name.startswith(f"{kind}_"))
    return READERS[kind](path)


def main() -> None:
    """Render the page beside the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", type=Path, metavar="FILE.json")
    path: Path = parser.parse_args().record
    print(read_page(path).render(path.parent))


if __name__ == "__main__":
    main()
