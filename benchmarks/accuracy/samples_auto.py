"""Measure what `--samples auto` saves and costs.

python -m benchmarks.accuracy.samples_auto --data DATA [--bundle BUNDLE] [--images 200]

Each val image is sampled 64 times, once. Sample k does not depend on N, so the first n of the 64 are what a run of n samples draws:
every rule is evaluated on prefixes of the same samples.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure as Picture
from rich.progress import track

from benchmarks.accuracy.stopping_rules import REFERENCE, Prefixes, Rule, all_rules
from benchmarks.common.machine import inspect_machine
from benchmarks.common.page import RESULTS, Page, Plot, Record, Section
from benchmarks.common.script import command_line, one_line_errors, today
from benchmarks.common.tables import table
from medseg_runtime.inference.segmenter import Segmenter
from medseg_runtime.result.stopping import FIRST, MAX_SAMPLES, NEXT
from medseg_trainer.data.layouts import Cases, read_cases
from medseg_trainer.evaluation.evaluate import SampleSettings
from medseg_trainer.evaluation.statistics import Figure

PROGRAM = "python -m benchmarks.accuracy.samples_auto"


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplesAuto(Record):
    """All rules on one bundle."""

    model: str
    bundle_sha256: str
    backend: str
    sampler: str
    steps: int
    images: int
    patients: int
    seed: int
    rules: tuple[Rule, ...]


def main() -> None:
    """Sample, evaluate, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--bundle", type=Path, help="default: the shipped bundle")
    parser.add_argument("--images", type=int, default=200, help="number of evenly spaced val images")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    with one_line_errors(PROGRAM):
        print(page(run_rules(given, command_line(PROGRAM, parser, given))).write(given.out))


def run_rules(given: argparse.Namespace, command: str) -> SamplesAuto:
    """Sample every image once, and evaluate every rule."""
    start, machine = time.monotonic(), inspect_machine()
    segmenter = Segmenter.load(given.bundle)
    manifest, settings = segmenter.manifest, SampleSettings(samples=MAX_SAMPLES)
    cases = read_cases(given.data, "val", len(manifest.classes), manifest.classes).evenly(given.images)
    images = sample_prefixes(segmenter, cases, settings)
    return SamplesAuto(
        date=today(),
        command=command,
        machine=machine,
        seconds=time.monotonic() - start,
        model=manifest.name,
        bundle_sha256=segmenter.bundle_sha256,
        backend=f"{segmenter.backend.name} {segmenter.backend.version} {segmenter.backend.precision}",
        sampler=manifest.sampling.sampler,
        steps=manifest.sampling.steps,
        images=len(images),
        patients=cases.num_groups,
        seed=settings.seed,
        rules=tuple(all_rules(images)),
    )


def sample_prefixes(segmenter: Segmenter, cases: Cases, settings: SampleSettings) -> list[Prefixes]:
    """Segment every image, and evaluate the prefixes of its samples in the field."""
    found = []
    for case, result in settings.segment_all(segmenter, track(cases, "sampling")):
        box = result.placement.seen
        field = np.s_[:, box.y : box.y + box.height, box.x : box.x + box.width]
        found.append(Prefixes.of(case.group, result.masks[field], (case.masks > 0)[field]))
    return found


def page(record: SamplesAuto) -> Page:
    """Lay out the page."""
    return Page(
        kind="samples_auto",
        subject=record.model,
        title="Samples drawn by `--samples auto`",
        record=record,
        data=f"{record.images:,} images of {record.patients} patients of the split `val`, {MAX_SAMPLES} samples each",
        seed=record.seed,
        facts={
            "Bundle": f"sha256 {record.bundle_sha256[:12]}, sampler {record.sampler}, S = {record.steps}",
            "Backend": record.backend,
        },
        introduction=(
            (
                f"`--samples auto` draws {FIRST} samples, then {NEXT} more at a time. It stops when the standard error of the confidence, "
                "as root mean square over the field, is at most the tolerance (`runtime/medseg_runtime/result/stopping.py`), or when "
                f"{MAX_SAMPLES} are drawn."
            ),
        ),
        plot=Plot("Brier score and GED against the mean number of samples", lambda: _paint(record.rules)),
        sections=(
            Section(
                "Rules",
                (
                    _table(record.rules),
                    (
                        "Ratios: 95 % intervals, bootstrap over patients. Brier: mean squared difference of the confidence and the raters' "
                        "mean over the field, the same pixels for every rule. Over marked pixels, as `medseg-train evaluate` reports it, only "
                        "pixels count that a sample or a rater marked. More samples mark more pixels with a low confidence, which lowers that "
                        "mean, so it compares models at one N better than numbers of samples."
                    ),
                ),
            ),
        ),
    )


def _table(rules: tuple[Rule, ...]) -> str:
    over = f"over that of N = {REFERENCE}"
    header = ("rule", "drawn: median", "mean", "p90", "GED", "Brier", over, "Brier, marked pixels", over)
    rows = [
        (
            rule.name,
            f"{rule.drawn_median:g}",
            f"{rule.drawn_mean:.1f}",
            f"{rule.drawn_p90:g}",
            f"{rule.ged:.4f}",
            f"{rule.brier:.5f}",
            _ratio(rule.brier_ratio),
            f"{rule.brier_marked:.5f}",
            _ratio(rule.brier_marked_ratio),
        )
        for rule in rules
    ]
    return table(header, rows)


def _ratio(figure: Figure) -> str:
    return f"{figure.mean:.3f} ({figure.low:.3f} to {figure.high:.3f})"


def _paint(rules: tuple[Rule, ...]) -> Picture:
    """Paint Brier score and GED against the mean number of samples, for fixed numbers and for `auto`."""
    picture, panels = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for axes, name, label in zip(panels, ("brier", "ged"), ("Brier score over the field", "GED"), strict=True):
        for auto, marker in ((False, "s"), (True, "o")):
            chosen = [rule for rule in rules if rule.auto == auto]
            points = [(rule.drawn_mean, getattr(rule, name)) for rule in chosen]
            label_of_line = "auto, by tolerance" if auto else "the same N for every image"
            axes.plot(*zip(*points, strict=True), marker=marker, label=label_of_line)
            for rule, point in zip(chosen, points, strict=True):
                if not auto or rule is chosen[0] or rule is chosen[-1] or rule.default:
                    text, shift = (rule.name.split(", ")[1], (-6, -13)) if auto else (rule.name.split()[-1], (6, 6))
                    axes.annotate(text, point, xytext=shift, textcoords="offset points", fontsize=8)
        axes.set(xlabel="mean number of samples drawn", ylabel=f"{label} (lower is better)")
        axes.grid(alpha=0.3)
    panels[0].legend()
    return picture


if __name__ == "__main__":
    main()
