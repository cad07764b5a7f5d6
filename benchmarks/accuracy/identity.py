"""Measure whether sample k is the same hypothesis from slice to slice.

python -m benchmarks.accuracy.identity --data DATA [--bundle BUNDLE] [--images 400]

Neighbouring slices of one nodule stand for the frames of a clip: the shipped model knows lung nodules, and no public clip shows one. Every
slice is sampled twice: from the noise that sample k has in every image of one seed, and from fresh noise.
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.figure import Figure as Picture
from rich.progress import track

from benchmarks.common.machine import inspect_machine
from benchmarks.common.page import RESULTS, Page, Plot, Record, Section
from benchmarks.common.script import command_line, one_line_errors, today
from benchmarks.common.tables import table
from medseg_runtime.inference.segmenter import Segmenter
from medseg_runtime.result.metrics import Identity
from medseg_trainer.data.layouts import Case, Cases, read_cases
from medseg_trainer.evaluation.statistics import Figure, averages

PROGRAM = "python -m benchmarks.accuracy.identity"
SLICE = re.compile(r"(?P<sequence>.+)/\D*(?P<number>\d+)")
"""Name of a slice: what comes before the last number names the sequence."""
KINDS = {"shared": "the same noise for sample k in every slice", "fresh": "fresh noise in every slice"}


@dataclass(frozen=True, kw_only=True, slots=True)
class IdentityOfSamples(Record):
    """All pairs of neighbouring slices, with the same noise and with fresh noise."""

    model: str
    bundle_sha256: str
    backend: str
    samples: int
    seed: int
    images: int
    pairs: int
    marked: int
    """Pairs in which no mask is empty."""
    sequences: int
    patients: int
    figures: dict[str, Figure]
    """`same`, `others` and `gain`, each with the kind of noise: `same shared` and so on; `gain difference` of the two kinds."""
    marked_figures: dict[str, Figure]
    """The same over the pairs in which no mask is empty."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two neighbouring slices of one sequence."""

    group: str
    sequence: str
    marked: bool
    values: Mapping[str, float]


def main() -> None:
    """Sample, compare, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--bundle", type=Path, help="default: the shipped bundle")
    parser.add_argument("--images", type=int, default=None, help="only the first so many val slices; default: all")
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    with one_line_errors(PROGRAM):
        print(page(run_identity(given, command_line(PROGRAM, parser, given))).write(given.out))


def run_identity(given: argparse.Namespace, command: str) -> IdentityOfSamples:
    """Compare every pair of neighbouring slices."""
    start, machine, seed = time.monotonic(), inspect_machine(), 0
    segmenter = Segmenter.load(given.bundle)
    manifest = segmenter.manifest
    cases = read_cases(given.data, "val", len(manifest.classes), manifest.classes)
    cases = Cases(cases.entries[: given.images])
    pairs = list(compared(segmenter, track(cases, "sampling"), samples=given.samples, seed=seed))
    marked = [pair for pair in pairs if pair.marked]
    return IdentityOfSamples(
        date=today(),
        command=command,
        machine=machine,
        seconds=time.monotonic() - start,
        model=manifest.name,
        bundle_sha256=segmenter.bundle_sha256,
        backend=f"{segmenter.backend.name} {segmenter.backend.version} {segmenter.backend.precision}",
        samples=given.samples,
        seed=seed,
        images=len(cases),
        pairs=len(pairs),
        marked=len(marked),
        sequences=len({pair.sequence for pair in pairs}),
        patients=len({pair.group for pair in pairs}),
        figures=averages([(pair.group, pair.values) for pair in pairs]),
        marked_figures=averages([(pair.group, pair.values) for pair in marked]) if marked else {},
    )


def compared(segmenter: Segmenter, cases: Iterable[Case], *, samples: int, seed: int) -> Iterator[Pair]:
    """Yield the figures of each pair of neighbouring slices."""
    sampled = (
        (case, [segmenter(case.image, samples=samples, seed=each).masks for each in (seed, seed + 1 + number)])
        for number, case in enumerate(cases)
    )
    for (case, (shared, fresh)), (following, (next_shared, next_fresh)) in pairwise(sampled):
        sequence = neighbours(case.name, following.name)
        if sequence is None:
            continue
        values = {
            f"{what} {kind}": getattr(found, what)
            for kind, found in (
                ("shared", Identity.of(shared, next_shared)),
                ("fresh", Identity.of(fresh, next_fresh)),
            )
            for what in ("same", "others", "gain")
        }
        values["gain difference"] = values["gain shared"] - values["gain fresh"]
        marked = all(masks.any(axis=(1, 2)).all() for masks in (shared, next_shared, fresh, next_fresh))
        yield Pair(case.group, sequence, marked, values)


def neighbours(first: str, second: str) -> str | None:
    """Return the sequence of two slices that follow each other in it, by their names; None if they do not."""
    one, other = SLICE.fullmatch(first), SLICE.fullmatch(second)
    if one is None or other is None or one["sequence"] != other["sequence"]:
        return None
    return one["sequence"] if int(other["number"]) == int(one["number"]) + 1 else None


def page(record: IdentityOfSamples) -> Page:
    """Lay out the page."""
    return Page(
        kind="identity",
        subject=record.model,
        title="Samples that keep their identity from slice to slice",
        record=record,
        data=(
            f"{record.pairs:,} pairs of neighbouring slices of {record.sequences} nodules of {record.patients} patients, from "
            f"{record.images:,} images of the split `val`; {record.samples} samples each"
        ),
        seed=record.seed,
        facts={"Bundle": f"sha256 {record.bundle_sha256[:12]}", "Backend": record.backend},
        introduction=(
            (
                "Sample k starts from the same noise in every image of one seed. Is it then the same hypothesis in the next frame of a clip? "
                "`same`: mean IoU of mask k with mask k of the next slice. `others`: with masks k' != k. Identity is `same` less `others`, "
                "and 0 if a sample's number means nothing."
            ),
            (
                "Neighbouring slices of one nodule stand for frames here, because the shipped model knows nodules only. They differ more than the frames of a "
                "video do. No video was measured."
            ),
        ),
        plot=Plot("Identity with the same noise and with fresh noise", lambda: _paint(record)),
        sections=(
            Section(
                "All pairs",
                (_table(record.figures), "95 % intervals, bootstrap over patients. Two empty masks have an IoU of 1."),
            ),
            Section(
                "Pairs in which no mask is empty",
                (
                    _table(record.marked_figures),
                    f"{record.marked:,} of the {record.pairs:,} pairs. Here identity is of shapes alone.",
                ),
            ),
        ),
    )


def _table(figures: Mapping[str, Figure]) -> str:
    header = ("noise", "same", "others", "identity")
    if not figures:
        return "No such pair."
    rows = [
        (title, *(_interval(figures[f"{what} {kind}"]) for what in ("same", "others", "gain")))
        for kind, title in KINDS.items()
    ]
    return table(header, [*rows, ("difference", "", "", _interval(figures["gain difference"]))])


def _interval(figure: Figure) -> str:
    return f"{figure.mean:.3f} ({figure.low:.3f} to {figure.high:.3f})"


def _paint(record: IdentityOfSamples) -> Picture:
    """Paint `same` and `others` beside each other, for both kinds of noise."""
    picture, panels = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained", sharey=True)
    for axes, (title, figures) in zip(
        panels, (("all pairs", record.figures), ("no mask is empty", record.marked_figures)), strict=True
    ):
        for offset, what, label in ((-0.2, "same", "mask k with mask k"), (0.2, "others", "mask k with the others")):
            found = [figures[f"{what} {kind}"] for kind in KINDS if figures]
            places = [index + offset for index in range(len(found))]
            means = [figure.mean for figure in found]
            spread = [[f.mean - f.low for f in found], [f.high - f.mean for f in found]]
            axes.bar(places, means, width=0.38, yerr=spread, capsize=3, label=label)
        axes.set(title=title, xticks=[0, 1], xticklabels=["same noise", "fresh noise"], ylim=(0, 1))
        axes.grid(axis="y", alpha=0.3)
    panels[0].set_ylabel("mean IoU with the next slice")
    panels[0].legend(loc="lower left")
    return picture


if __name__ == "__main__":
    main()
