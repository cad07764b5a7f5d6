"""Do K representatives with their weights say more than K samples? Draws 64 per val image and writes a page and a plot.

python -m benchmarks.representatives --data DATA [--bundle BUNDLE] [--images 200] [--steps S]
"""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from rich.progress import track

from benchmarks.script import command, one_line_errors
from benchmarks.tables import with_interval
from medseg_runtime.inference.segmenter import Segmenter
from medseg_runtime.machine.processor import processor
from medseg_runtime.result.metrics import Calibration, Overlaps
from medseg_runtime.result.representatives import representatives
from medseg_trainer.data.layouts import read_cases
from medseg_trainer.evaluation.evaluate import SampleSettings
from medseg_trainer.evaluation.statistics import CaseFigures, Figure, summarise

mpl.use("agg")
DRAWS = 64
COUNTS = (2, 4, 8, 16)
WAYS = {
    "plain": "the first K samples, 1 / K each",
    "representatives": "K representatives of the 64 with their weights: what `--representatives K` gives",
    "nearest": "the same masks, weighted by the share of draws that are nearest to each",
    "equal": "the same masks, 1 / K each",
}


def main() -> None:
    """Measure every way and count, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--steps", type=int, help="default: the bundle's")
    arguments = parser.parse_args()
    with one_line_errors("benchmarks.representatives"):
        _measure(arguments, command("python -m benchmarks.representatives", parser, arguments))


def _measure(arguments: argparse.Namespace, typed: str) -> None:
    segmenter = Segmenter.load(arguments.bundle)
    classes = segmenter.manifest.classes
    cases = read_cases(arguments.data, "val", len(classes), classes[0]).evenly(arguments.images)
    settings = SampleSettings(samples=DRAWS, steps=arguments.steps)
    figures = []
    for case, result in settings.segment_all(segmenter, track(cases, "drawing")):
        raters = case.masks > 0
        values = of_one_image(result.masks, Overlaps.of(result.masks, raters))
        figures.append(CaseFigures(case.name, case.group, values, Calibration.of(result.confidence, raters)))
    summary = summarise(figures)

    results = Path(__file__).parent / "results"
    stem = f"representatives_{segmenter.manifest.name}_{datetime.now(UTC).date().isoformat()}"
    head = (
        f"# {stem}\n\n"
        f"{len(cases):,} images of {cases.num_groups} patients of the split `val`, {DRAWS} draws each, {result.sampler} with {result.steps} "
        f"step(s), seed 0; {segmenter.backend.name} {segmenter.backend.version}, bundle sha256 {segmenter.bundle_sha256[:12]}; "
        f"{processor()}.\nCommand: `{typed}`.\n\n"
    )
    (results / f"{stem}.md").write_text(head + page(summary) + f"\n![GED against K]({stem}.png)\n")
    plot(summary, results / f"{stem}.png")
    print(page(summary))


def of_one_image(masks: npt.NDArray[np.bool_], overlaps: Overlaps) -> dict[str, float]:
    """Return GED and HM-IoU by way and count, as `ged plain 4`, and what the representatives gain over plain samples."""
    values = {"ged all": overlaps.ged(), "hm_iou all": overlaps.hm_iou()}
    for count in COUNTS:
        found = representatives(masks, count)
        chosen, weights = found.samples, found.shares
        few = overlaps.of_samples(chosen)
        nearest = np.bincount(overlaps.samples[chosen].argmax(axis=0), minlength=len(chosen)) / len(masks)
        ways = {
            "plain": (overlaps.of_samples(slice(count)), None),
            "representatives": (few, weights),
            "nearest": (few, nearest),
            "equal": (few, None),
        }
        for way, (of, shares) in ways.items():
            values[f"ged {way} {count}"] = of.ged(shares)
            values[f"hm_iou {way} {count}"] = of.hm_iou(shares)
        for name in ("ged", "hm_iou"):
            values[f"{name} gain {count}"] = values[f"{name} representatives {count}"] - values[f"{name} plain {count}"]
    return values


def page(summary: dict[str, Figure]) -> str:
    """Return the tables as Markdown."""
    lines = [
        "Intervals: 95 %, bootstrap over patients. Weighted GED: 2 sum_i w_i E_Y d(S_i,Y) - sum_ij w_i w_j d(S_i,S_j) - E d(Y,Y'), with",
        "d = 1 - IoU. Weighted HM-IoU: the best transport plan in which mask i gives away w_i and each rater receives 1 / R; with equal",
        "weights both are the usual ones.\n",
    ]
    for name, title in (("ged", "GED, lower is better"), ("hm_iou", "HM-IoU, higher is better")):
        lines += [f"\n| {title} | {' | '.join(f'K = {count}' for count in COUNTS)} |", f"|{'---|' * (len(COUNTS) + 1)}"]
        for way, what in WAYS.items():
            lines.append(
                f"| {what} | {' | '.join(with_interval(summary[f'{name} {way} {count}']) for count in COUNTS)} |"
            )
        gains = " | ".join(with_interval(summary[f"{name} gain {count}"], "+") for count in COUNTS)
        lines += [f"| representatives less plain, image by image | {gains} |"]
        lines += [f"\nAll {DRAWS} draws: {with_interval(summary[f'{name} all'])}."]
    return "\n".join(lines) + "\n"


def plot(summary: dict[str, Figure], path: Path) -> None:
    """Draw GED against K for plain samples and representatives, with their intervals."""
    picture, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for way, label in (("plain", "K samples"), ("representatives", f"K weighted representatives of {DRAWS}")):
        geds = [summary[f"ged {way} {count}"] for count in COUNTS]
        spread = [[g.mean - g.low for g in geds], [g.high - g.mean for g in geds]]
        axes.errorbar(COUNTS, [g.mean for g in geds], yerr=spread, marker="o", capsize=3, label=label)
    axes.axhline(summary["ged all"].mean, color="grey", linestyle="--", label=f"all {DRAWS} draws")
    axes.set(xscale="log", xlabel="K masks", ylabel="GED (lower is better)")
    axes.set_xticks(COUNTS, [str(count) for count in COUNTS])
    axes.minorticks_off()
    axes.legend()
    axes.grid(alpha=0.3)
    picture.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
