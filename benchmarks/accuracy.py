"""How good are N samples, by number of steps and kind of noise? Measures a bundle on val and writes a page and a plot.

python -m benchmarks.accuracy --data DATA [--bundle BUNDLE] [--run RUN] [--images 300]

A bundle tuned to draw in one step reads the noise that it was tuned for and no other, and says little about how many steps the flow
model needs: `--run` puts that model beside it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt

from benchmarks.script import command, one_line_errors
from medseg_runtime.inference.segmenter import Segmenter
from medseg_runtime.machine.processor import processor
from medseg_runtime.model.noise import NoiseLaw
from medseg_trainer.evaluation.evaluate import Evaluation, evaluate
from medseg_trainer.models.graphs import TorchBackend
from medseg_trainer.models.manifest import manifest_of
from medseg_trainer.training.run_folder import RunFolder

mpl.use("agg")
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


@dataclass(frozen=True, slots=True)
class Row:
    """One model at one law of noise and number of steps."""

    model: str
    """`bundle`, or `flow`: a run before its tuning."""
    noise: NoiseLaw
    measured: Evaluation


def main() -> None:
    """Measure every combination and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--run", type=Path, help="run folder, for its flow model beside the bundle")
    parser.add_argument("--images", type=int)
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--steps", type=int, nargs="+", default=STEPS)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    with one_line_errors("benchmarks.accuracy"):
        _measure(arguments, command("python -m benchmarks.accuracy", parser, arguments))


def _measure(arguments: argparse.Namespace, typed: str) -> None:
    arguments.out.mkdir(parents=True, exist_ok=True)
    segmenter = Segmenter.load(arguments.bundle)
    rows = []
    for model, measured in subjects(segmenter, arguments.run):
        for steps in arguments.steps:
            found = evaluate(
                measured, arguments.data, "val", samples=arguments.samples, steps=steps, images=arguments.images
            )
            rows.append(Row(model, measured.manifest.sampling.noise, found))
            print(line(rows[-1]))

    stem = f"accuracy_{segmenter.manifest.name}_{datetime.now(UTC).date().isoformat()}"
    (arguments.out / f"{stem}.md").write_text(page(stem, rows, typed))
    plot(rows, arguments.out / f"{stem}.png")


def subjects(segmenter: Segmenter, run: Path | None) -> Iterator[tuple[str, Segmenter]]:
    """Yield the bundle with every law of noise that it can read, then the flow model of a run with its own."""
    default = segmenter.manifest.sampling
    laws = (default.noise,) if default.tuned else (default.noise, NoiseLaw(antithetic=True), NoiseLaw())
    for noise in dict.fromkeys(laws):  # each once
        sampling = replace(default, noise=noise)
        manifest = replace(segmenter.manifest, sampling=sampling)
        yield "bundle", Segmenter(manifest, segmenter.backend, bundle_sha256=segmenter.bundle_sha256)
    if run is not None:
        folder = RunFolder(run)
        config = folder.config()
        yield "flow", Segmenter(manifest_of(config, config.sampling), TorchBackend(folder.networks("denoiser")))


def named(noise: NoiseLaw) -> str:
    """Return what a law of noise is called in the table."""
    if noise.stratified:
        return f"stratified {noise.stratified:.0%}"
    return "antithetic" if noise.antithetic else "independent"


def line(row: Row) -> str:
    """Return one line of the table."""
    figures = row.measured.figures
    ged = figures["ged"]
    cells = [f"{ged.mean:.4f} ({ged.low:.3f} to {ged.high:.3f})"]
    cells += [f"{figures[name].mean:.4f}" for name in SHOWN[1:]]
    return f"| {row.model} | {row.measured.steps} | {named(row.noise)} | {' | '.join(cells)} |"


def page(stem: str, rows: list[Row], typed: str) -> str:
    """Return the page as Markdown."""
    first = rows[0].measured
    engines = {row.model: row.measured.backend for row in rows}
    head = (
        f"# {stem}\n\n"
        f"{first.images:,} images of {first.groups} patients of the split `{first.split}`, {first.samples} samples, sampler {first.sampler}, "
        f"seed {first.seed}; {', '.join(f'{model}: {engine}' for model, engine in engines.items())}; "
        f"bundle sha256 {first.bundle_sha256[:12]}; {processor()}.\n"
        f"Command: `{typed}`. Intervals: 95 %, bootstrap over patients. "
        "`flow`: the flow model of a run, before it is tuned to draw in one step. `small_dice`: targets under 20 px. "
        "`hd95_px`: where neither consensus nor majority is empty. `ged_one_noise`: all samples from one noise.\n\n"
    )
    table = f"| model | S | noise | {' | '.join(SHOWN)} |\n|{'---|' * (len(SHOWN) + 3)}\n"
    return head + table + "\n".join(map(line, rows)) + f"\n\n![GED against the number of steps]({stem}.png)\n"


def plot(rows: list[Row], path: Path) -> None:
    """Draw GED against the number of steps, one line per model and kind of noise, with its intervals."""
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for model, noise in dict.fromkeys((row.model, row.noise) for row in rows):
        measured = [row.measured for row in rows if (row.model, row.noise) == (model, noise)]
        geds = [m.figures["ged"] for m in measured]
        spread = [[g.mean - g.low for g in geds], [g.high - g.mean for g in geds]]
        axes.errorbar(
            [m.steps for m in measured],
            [g.mean for g in geds],
            yerr=spread,
            marker="o",
            capsize=3,
            linestyle="--" if model == "flow" else "-",
            label=f"{model}, {named(noise)} noise",
        )
    axes.set(
        xscale="log", xlabel="denoiser steps S", ylabel=f"GED of {rows[0].measured.samples} samples (lower is better)"
    )
    steps = sorted({row.measured.steps for row in rows})
    axes.set_xticks(steps, [str(count) for count in steps], minor=False)
    axes.minorticks_off()
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
