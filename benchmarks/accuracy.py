"""How good are N samples, by number of steps and kind of noise? Measures a bundle on val and writes a page and a plot.

python benchmarks/accuracy.py --data DATA [--bundle BUNDLE] [--images 300]
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt

from medseg_runtime.noise import NoiseLaw
from medseg_runtime.processor import processor
from medseg_runtime.segmenter import Segmenter
from medseg_trainer.evaluate import Evaluation, evaluate

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


def main() -> None:
    """Measure every combination and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--images", type=int)
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--steps", type=int, nargs="+", default=STEPS)
    arguments = parser.parse_args()

    segmenter = Segmenter.load(arguments.bundle)
    rows = []
    # the bundle's own noise first; a dict has each law once
    for noise in dict.fromkeys((segmenter.manifest.sampling.noise, NoiseLaw(antithetic=True), NoiseLaw())):
        sampling = replace(segmenter.manifest.sampling, noise=noise)
        measured = Segmenter(
            replace(segmenter.manifest, sampling=sampling), segmenter.backend, bundle_sha256=segmenter.bundle_sha256
        )
        for steps in arguments.steps:
            options = {"samples": arguments.samples, "steps": steps, "seed": 0, "images": arguments.images}
            rows.append((named(noise), evaluate(measured, arguments.data, "val", **options)))
            print(row(*rows[-1]))

    results = Path(__file__).parent / "results"
    stem = f"accuracy_{segmenter.manifest.name}_{datetime.now(UTC).date().isoformat()}"
    (results / f"{stem}.md").write_text(page(stem, rows))
    plot(rows, results / f"{stem}.png")


def named(noise: NoiseLaw) -> str:
    """Return what a law of noise is called in the table."""
    if noise.stratified:
        return f"stratified {noise.stratified:.0%}"
    return "antithetic" if noise.antithetic else "independent"


def row(noise: str, measured: Evaluation) -> str:
    """Return one line of the table."""
    ged = measured.figures["ged"]
    cells = [f"{ged.mean:.4f} ({ged.low:.3f} to {ged.high:.3f})"]
    cells += [f"{measured.figures[name].mean:.4f}" for name in SHOWN[1:]]
    return f"| {measured.steps} | {noise} | " + " | ".join(cells) + " |"


def page(stem: str, rows: list[tuple[str, Evaluation]]) -> str:
    """Return the page as Markdown."""
    first = rows[0][1]
    head = (
        f"# {stem}\n\n"
        f"{first.images:,} images of {first.groups} patients of the split `{first.split}`, {first.samples} samples, sampler {first.sampler}, "
        f"seed {first.seed}; {first.backend}, bundle sha256 {first.bundle_sha256[:12]}; {processor()}.\n"
        "Command: `python benchmarks/accuracy.py --data DATA`"
        f"{'' if first.images > 1000 else f' `--images {first.images}`'}. Intervals: 95 %, bootstrap over patients. "
        "`small_dice`: targets under 20 px. `hd95_px`: where neither consensus nor majority is empty. "
        "`ged_one_noise`: all samples from one noise.\n\n"
    )
    table = f"| S | noise | {' | '.join(SHOWN)} |\n|{'---|' * (len(SHOWN) + 2)}\n"
    return (
        head
        + table
        + "\n".join(row(*entry) for entry in rows)
        + f"\n\n![GED against the number of steps]({stem}.png)\n"
    )


def plot(rows: list[tuple[str, Evaluation]], path: Path) -> None:
    """Draw GED against the number of steps, one line per kind of noise, with its intervals."""
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for noise in dict.fromkeys(noise for noise, _ in rows):
        measured = [m for law, m in rows if law == noise]
        geds = [m.figures["ged"] for m in measured]
        spread = [[g.mean - g.low for g in geds], [g.high - g.mean for g in geds]]
        steps = [m.steps for m in measured]
        axes.errorbar(steps, [g.mean for g in geds], yerr=spread, marker="o", capsize=3, label=f"{noise} noise")
    axes.set(xscale="log", xlabel="denoiser steps S", ylabel=f"GED of {rows[0][1].samples} samples (lower is better)")
    axes.set_xticks([m.steps for _, m in rows], [str(m.steps) for _, m in rows], minor=False)
    axes.minorticks_off()
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
