"""Measure accuracy by number of sampling steps and kind of noise.

python -m benchmarks.accuracy.by_steps --data DATA [--bundle BUNDLE] [--run RUN] [--images 300]

A bundle that was tuned to one step reads only the noise it was tuned with. `--run` adds the flow model of a run, before tuning.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.figure import Figure as Picture

from benchmarks.common.machine import inspect_machine
from benchmarks.common.page import RESULTS, Page, Plot, Record, Section
from benchmarks.common.paired import existing
from benchmarks.common.script import command_line, one_line_errors, today
from benchmarks.common.tables import format_interval, noise_name, table
from medseg_runtime.inference.segmenter import Segmenter
from medseg_runtime.model.noise import NoiseLaw
from medseg_trainer.evaluation.evaluate import Evaluation, evaluate
from medseg_trainer.models.graphs import TorchBackend
from medseg_trainer.models.manifest import manifest_of
from medseg_trainer.training.run_folder import RunFolder

PROGRAM = "python -m benchmarks.accuracy.by_steps"
STEPS = (1, 2, 4, 10, 50)
SHOWN = (
    "ged",
    "hm_iou",
    "sample_diversity",
    "rater_diversity",
    "consensus_dice",
    "small_dice",
    "hd95_px",
    "empty_samples",
    "empty_raters",
    "brier",
    "ece",
    "ged_one_noise",
)
"""Columns of the table."""


@dataclass(frozen=True, slots=True)
class Row:
    """One model at one noise law and number of steps."""

    model: str
    """`bundle`, or `flow` for the flow model of a run."""
    noise: NoiseLaw
    measured: Evaluation


@dataclass(frozen=True, kw_only=True, slots=True)
class Accuracy(Record):
    """Accuracy of one bundle, and of a flow model beside it."""

    rows: tuple[Row, ...]


def main() -> None:
    """Measure every combination and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--bundle", type=Path, help="default: the shipped bundle")
    parser.add_argument("--run", type=Path, help="run folder whose flow model is measured too")
    parser.add_argument("--images", type=int, help="number of evenly spaced val images; default: all")
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--steps", type=int, nargs="+", default=STEPS)
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    with one_line_errors(PROGRAM):
        print(page(run_accuracy(given, command_line(PROGRAM, parser, given))).write(given.out))


def run_accuracy(given: argparse.Namespace, command: str) -> Accuracy:
    """Measure the bundle, and the flow model if there is one, at every number of steps."""
    start, machine = time.monotonic(), inspect_machine()
    rows = []
    for model, segmenter in models(Segmenter.load(given.bundle), given.run):
        for steps in given.steps:
            found = evaluate(segmenter, given.data, "val", samples=given.samples, steps=steps, images=given.images)
            rows.append(Row(model, segmenter.manifest.sampling.noise, replace(found, figures=existing(found.figures))))
    return Accuracy(date=today(), command=command, machine=machine, seconds=time.monotonic() - start, rows=tuple(rows))


def models(segmenter: Segmenter, run: Path | None) -> Iterator[tuple[str, Segmenter]]:
    """Yield the bundle with each noise law that it can read, then the flow model of a run with its own noise law."""
    default = segmenter.manifest.sampling
    laws = (default.noise,) if default.tuned else (default.noise, NoiseLaw(antithetic=True), NoiseLaw())
    for noise in dict.fromkeys(laws):
        manifest = replace(segmenter.manifest, sampling=replace(default, noise=noise))
        yield "bundle", Segmenter(manifest, segmenter.backend, bundle_sha256=segmenter.bundle_sha256)
    if run is not None:
        folder = RunFolder(run)
        config = folder.config()
        yield "flow", Segmenter(manifest_of(config, config.sampling), TorchBackend(folder.networks("denoiser")))


def page(record: Accuracy) -> Page:
    """Lay out the page."""
    first = record.rows[0].measured
    backends = {row.model: row.measured.backend for row in record.rows}
    return Page(
        kind="accuracy",
        subject=first.model,
        title="Accuracy by number of steps",
        record=record,
        data=f"{first.images:,} images of {first.groups} patients of the split `{first.split}`, {first.samples} samples each",
        seed=first.seed,
        facts={
            "Bundle": f"sha256 {first.bundle_sha256[:12]}, sampler {first.sampler}",
            "Backends": ", ".join(f"{model}: {backend}" for model, backend in backends.items()),
        },
        introduction=(
            (
                "Intervals: 95 %, bootstrap over patients. `flow`: the flow model of a run, before it is tuned to one step. `small_dice`: "
                "targets under 20 px. `hd95_px`: over images where neither consensus nor majority is empty. `ged_one_noise`: all samples "
                "start from one noise."
            ),
        ),
        plot=Plot("GED against the number of steps", lambda: _paint(record.rows)),
        sections=(Section("Figures", (table(("model", "S", "noise", *SHOWN), map(_cells, record.rows)),)),),
    )


def _cells(row: Row) -> tuple[str, ...]:
    figures = row.measured.figures
    means = (f"{figures[name].mean:.4f}" if name in figures else "" for name in SHOWN[1:])
    return row.model, str(row.measured.steps), noise_name(row.noise), format_interval(figures["ged"]), *means


def _paint(rows: tuple[Row, ...]) -> Picture:
    """Paint GED against the number of steps, one line per model and noise law."""
    picture, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for model, noise in dict.fromkeys((row.model, row.noise) for row in rows):
        measured = [row.measured for row in rows if (row.model, row.noise) == (model, noise)]
        geds = [one.figures["ged"] for one in measured]
        axes.errorbar(
            [one.steps for one in measured],
            [ged.mean for ged in geds],
            yerr=[[ged.mean - ged.low for ged in geds], [ged.high - ged.mean for ged in geds]],
            marker="o",
            capsize=3,
            linestyle="--" if model == "flow" else "-",
            label=f"{model}, {noise_name(noise)} noise",
        )
    samples = rows[0].measured.samples
    axes.set(xscale="log", xlabel="denoiser steps S", ylabel=f"GED of {samples} samples (lower is better)")
    steps = sorted({row.measured.steps for row in rows})
    axes.set_xticks(steps, [str(count) for count in steps])
    axes.minorticks_off()
    axes.legend()
    axes.grid(alpha=0.3)
    return picture


if __name__ == "__main__":
    main()
