"""Compare K weighted representatives of 64 samples with K plain samples.

python -m benchmarks.accuracy.representatives --data DATA [--bundle BUNDLE] [--images 200] [--steps S]
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure as Picture
from rich.progress import track

from benchmarks.common.machine import inspect_machine
from benchmarks.common.page import RESULTS, Page, Plot, Record, Section
from benchmarks.common.script import command_line, one_line_errors, today
from benchmarks.common.tables import format_interval, table
from medseg_runtime.inference.segmenter import Segmenter
from medseg_runtime.result.metrics import Calibration, Overlaps
from medseg_runtime.result.representatives import representatives
from medseg_trainer.data.layouts import read_cases
from medseg_trainer.evaluation.evaluate import SampleSettings
from medseg_trainer.evaluation.statistics import CaseFigures, Figure, summarise

PROGRAM = "python -m benchmarks.accuracy.representatives"
DRAWS = 64
COUNTS = (2, 4, 8, 16)
SELECTIONS = {
    "plain": "the first K samples, 1 / K each",
    "representatives": "K representatives of the 64 with their weights: what `--representatives K` returns",
    "nearest": "the same masks, weighted by the share of samples that are nearest to each",
    "equal": "the same masks, 1 / K each",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison(Record):
    """GED and HM-IoU of every selection."""

    model: str
    bundle_sha256: str
    backend: str
    sampler: str
    steps: int
    images: int
    patients: int
    seed: int
    figures: dict[str, Figure]
    """`METRIC SELECTION K`, for example `ged plain 4`; `METRIC all` of all 64 samples; `METRIC gain K` of the pairwise differences."""


def main() -> None:
    """Measure every selection and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--bundle", type=Path, help="default: the shipped bundle")
    parser.add_argument("--images", type=int, default=200, help="number of evenly spaced val images")
    parser.add_argument("--steps", type=int, help="default: the bundle's")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    with one_line_errors(PROGRAM):
        print(page(run_comparison(given, command_line(PROGRAM, parser, given))).write(given.out))


def run_comparison(given: argparse.Namespace, command: str) -> Comparison:
    """Paint 64 samples per val image and measure every selection of them."""
    start, machine = time.monotonic(), inspect_machine()
    segmenter = Segmenter.load(given.bundle)
    classes = segmenter.manifest.classes
    cases = read_cases(given.data, "val", len(classes), classes).evenly(given.images)
    settings = SampleSettings(samples=DRAWS, steps=given.steps)
    figures = []
    for case, result in settings.segment_all(segmenter, track(cases, "sampling")):
        raters = case.masks > 0
        values = figures_of_image(result.masks, Overlaps.of(result.masks, raters))
        figures.append(CaseFigures(case.name, case.group, values, Calibration.of(result.confidence, raters)))
    return Comparison(
        date=today(),
        command=command,
        machine=machine,
        seconds=time.monotonic() - start,
        model=segmenter.manifest.name,
        bundle_sha256=segmenter.bundle_sha256,
        backend=f"{segmenter.backend.name} {segmenter.backend.version} {segmenter.backend.precision}",
        sampler=result.sampler,
        steps=result.steps,
        images=len(cases),
        patients=cases.num_groups,
        seed=settings.seed,
        figures=measured(summarise(figures)),
    )


def measured(summary: dict[str, Figure]) -> dict[str, Figure]:
    """Keep the figures of this benchmark; `summarise` adds those of the confidence."""
    return {name: figure for name, figure in summary.items() if " " in name}


def figures_of_image(masks: npt.NDArray[np.bool_], overlaps: Overlaps) -> dict[str, float]:
    """Return GED and HM-IoU of one image, by the keys of `Comparison.figures`.

    masks: (64, H, W). overlaps: of these masks with the raters'.
    """
    values = {"ged all": overlaps.ged(), "hm_iou all": overlaps.hm_iou()}
    for count in COUNTS:
        found = representatives(masks, count)
        chosen, weights = found.samples, found.shares
        few = overlaps.of_samples(chosen)
        nearest = np.bincount(overlaps.samples[chosen].argmax(axis=0), minlength=len(chosen)) / len(masks)
        selections = {
            "plain": (overlaps.of_samples(slice(count)), None),
            "representatives": (few, weights),
            "nearest": (few, nearest),
            "equal": (few, None),
        }
        for name, (of, shares) in selections.items():
            values[f"ged {name} {count}"] = of.ged(shares)
            values[f"hm_iou {name} {count}"] = of.hm_iou(shares)
        for metric in ("ged", "hm_iou"):
            gain = values[f"{metric} representatives {count}"] - values[f"{metric} plain {count}"]
            values[f"{metric} gain {count}"] = gain
    return values


def page(record: Comparison) -> Page:
    """Lay out the page."""
    return Page(
        kind="representatives",
        subject=record.model,
        title="Representatives",
        record=record,
        data=f"{record.images:,} images of {record.patients} patients of the split `val`, {DRAWS} samples each",
        seed=record.seed,
        facts={
            "Bundle": f"sha256 {record.bundle_sha256[:12]}, sampler {record.sampler}, S = {record.steps}",
            "Backend": record.backend,
        },
        introduction=(
            (
                "Intervals: 95 %, bootstrap over patients. Weighted GED: 2 sum_i w_i E_Y d(S_i,Y) - sum_ij w_i w_j d(S_i,S_j) - "
                "E d(Y,Y'), with d = 1 - IoU. Weighted HM-IoU: the best transport plan in which mask i gives away w_i and each rater "
                "receives 1 / R. With equal weights both are the usual ones."
            ),
        ),
        plot=Plot("GED against K", lambda: _paint(record.figures)),
        sections=(
            _section("ged", "GED, lower is better", record.figures),
            _section("hm_iou", "HM-IoU, higher is better", record.figures),
        ),
    )


def _section(metric: str, title: str, figures: dict[str, Figure]) -> Section:
    rows = [
        (what, *(format_interval(figures[f"{metric} {name} {count}"]) for count in COUNTS))
        for name, what in SELECTIONS.items()
    ]
    gains = (format_interval(figures[f"{metric} gain {count}"], "+") for count in COUNTS)
    rows.append(("representatives minus plain, image by image", *gains))
    header = ("", *(f"K = {count}" for count in COUNTS))
    return Section(title, (table(header, rows), f"All {DRAWS} samples: {format_interval(figures[f'{metric} all'])}."))


def _paint(figures: dict[str, Figure]) -> Picture:
    """Paint GED against K for plain samples and representatives."""
    picture, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for name, label in (("plain", "K samples"), ("representatives", f"K weighted representatives of {DRAWS}")):
        geds = [figures[f"ged {name} {count}"] for count in COUNTS]
        spread = [[ged.mean - ged.low for ged in geds], [ged.high - ged.mean for ged in geds]]
        axes.errorbar(COUNTS, [ged.mean for ged in geds], yerr=spread, marker="o", capsize=3, label=label)
    axes.axhline(figures["ged all"].mean, color="gray", linestyle="--", label=f"all {DRAWS} samples")
    axes.set(xscale="log", xlabel="K masks", ylabel="GED (lower is better)")
    axes.set_xticks(COUNTS, [str(count) for count in COUNTS])
    axes.minorticks_off()
    axes.legend()
    axes.grid(alpha=0.3)
    return picture


if __name__ == "__main__":
    main()
