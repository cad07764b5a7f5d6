"""The page of a campaign."""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.figure import Figure as Picture

from benchmarks.common.machine import installed
from benchmarks.common.page import Page, Plot, Section
from benchmarks.common.tables import table
from benchmarks.robustness.fuzz.report import FuzzReport, Outcome

HEADER = (
    "target",
    "inputs",
    "accepted",
    "refused",
    "edges",
    "features",
    "last new edge",
    "slowest",
    "seconds",
    "findings",
)
COLUMNS = 5


def read_report(path: Path) -> Page:
    """Return the page of a stored record."""
    return page(FuzzReport.read(path))


def page(report: FuzzReport) -> Page:
    """Lay out the page."""
    kinds = [f"{name}: {finding.what}" for name, outcome in report.targets.items() for finding in outcome.findings]
    return Page(
        kind="fuzz",
        subject="readers",
        title="Fuzzing guided by coverage",
        record=report,
        data=f"{report.runs:,} inputs of {len(report.targets)} targets, from files that are drawn here and pydicom's own",
        seed=1,
        facts={"Findings": f"{report.findings}", "Fuzzer": f"atheris {installed('atheris')} (libFuzzer)"},
        introduction=(
            (
                "An input must give a result or one error of ours. A finding is any other exception, a signal, more than 10 s of processor "
                "time, 1 GiB more memory than ever before, text on stdout, a message with the patient's name, or one that cannot be printed."
            ),
            (
                "Inputs are mutated by libFuzzer as bytes and, more often, in the structure of their format with checksums and lengths mended: "
                "DICOM elements, protobuf fields, JSON trees, PNG chunks, zip members. Edges and features are those of the Python code of "
                "`medseg_runtime` and `medseg_trainer`. Each target runs in a process of its own, so that a decoder's signal would be seen. "
                "`graph, run` puts the graphs that the guard lets pass into a bundle with the right hash and draws two masks with ONNX Runtime."
            ),
            "Edges and features are given at the start, from the first files, and at the end.",
        ),
        plot=Plot("Edges and features by number of inputs", lambda: _paint(report)),
        sections=(
            Section("Targets", (table(HEADER, [_row(name, outcome) for name, outcome in report.targets.items()]),)),
            Section("Findings", ("\n".join(f"- {kind}" for kind in kinds) or "None.",)),
        ),
    )


def _row(name: str, outcome: Outcome) -> list[str]:
    first, last = outcome.curve[0], outcome.curve[-1]
    reached = next(point.executions for point in outcome.curve if point.edges == last.edges)
    return [
        name,
        f"{outcome.runs:,}",
        f"{outcome.accepted:,}",
        f"{outcome.refused:,}",
        f"{first.edges:,} to {last.edges:,}",
        f"{first.features:,} to {last.features:,}",
        f"{reached:,}",
        f"{outcome.longest_ms:,} ms",
        f"{outcome.seconds:,.0f}",
        str(len(outcome.findings)),
    ]


def _paint(report: FuzzReport) -> Picture:
    rows = math.ceil(len(report.targets) / COLUMNS)
    figure, axes = plt.subplots(rows, COLUMNS, figsize=(11, 1.7 * rows), layout="constrained", squeeze=False)
    for panel in axes.flat[len(report.targets) :]:
        panel.axis("off")
    for panel, (name, outcome) in zip(axes.flat, report.targets.items(), strict=False):
        executions = [point.executions for point in outcome.curve]
        panel.plot(executions, [point.features for point in outcome.curve], color="tab:orange")
        panel.plot(executions, [point.edges for point in outcome.curve], color="tab:blue")
        panel.set(ylim=(0, None), xlim=(0, None))
        panel.set_title(name, fontsize=8)
        panel.tick_params(labelsize=6)
    figure.suptitle("edges (blue) and features (orange) by number of inputs", fontsize=9)
    return figure
