"""What does `--samples auto` save, and what does it cost? Draws 64 samples per val image once, and tries every rule on prefixes of them.

python -m benchmarks.samples_auto --data DATA [--bundle BUNDLE] [--images 200]

Sample k is the same for every N, so the first n of 64 samples are what a run of n samples draws.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from rich.progress import track

from benchmarks.script import command, one_line_errors
from medseg_runtime.inference.segmenter import Segmenter
from medseg_runtime.machine.processor import processor
from medseg_runtime.result.metrics import Calibration
from medseg_runtime.result.stopping import FIRST, MAX_SAMPLES, NEXT, TOLERANCE, stages, standard_error
from medseg_runtime.result.uncertainty import confidence, pairwise_iou
from medseg_trainer.data.layouts import read_cases
from medseg_trainer.evaluation.evaluate import SampleSettings

mpl.use("agg")
FIXED = (4, 8, 12, 16, 32, MAX_SAMPLES)
REFERENCE = 32
TOLERANCES = sorted({0.04, 0.03, 0.025, 0.02, 0.0175, 0.015, 0.0125, 0.01, TOLERANCE}, reverse=True)
BOOTSTRAP_DRAWS = 1000

Bool = npt.NDArray[np.bool_]
Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Prefixes:
    """One image: what its first n samples give, for each n that a rule may stop at."""

    group: str
    standard_error: dict[int, float]
    ged: dict[int, float]
    brier: dict[int, float]
    """Mean squared difference of confidence and raters' mean over the field."""
    brier_marked: dict[int, float]
    """The same over the pixels that a sample or a rater marked: the figure of `medseg-train evaluate`."""

    @classmethod
    def of(cls, group: str, masks: Bool, raters: Bool) -> Prefixes:
        """Evaluate masks (64, rows, columns) against raters (R, rows, columns), both in the field."""
        counts = masks.cumsum(axis=0, dtype=np.int32)
        sizes = sorted({*FIXED, *(stage.stop for stage in stages(len(masks)))})
        maps = {n: confidence(counts[n - 1], n) for n in sizes}
        own, other, theirs = (1.0 - pairwise_iou(*pair) for pair in ((masks, masks), (masks, raters), (raters, raters)))
        return cls(
            group,
            {n: standard_error(counts[n - 1], n) for n in sizes},
            {n: float(2 * other[:n].mean() - own[:n, :n].mean() - theirs.mean()) for n in sizes},
            {n: float(np.square(maps[n] - raters.mean(axis=0)).mean()) for n in sizes},
            {n: Calibration.of(maps[n], raters).brier for n in sizes},
        )

    def drawn(self, tolerance: float) -> int:
        """Return how many samples `auto` draws with this tolerance."""
        looks = [stage.stop for stage in stages(MAX_SAMPLES)]
        return next((n for n in looks if self.standard_error[n] <= tolerance), MAX_SAMPLES)


@dataclass(frozen=True, slots=True)
class Row:
    """One rule over all images."""

    rule: str
    drawn: npt.NDArray[np.int64]
    """(images,)"""
    ged: Float64
    brier: Float64
    brier_marked: Float64


def main() -> None:
    """Draw, evaluate, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--images", type=int, default=200)
    arguments = parser.parse_args()
    with one_line_errors("benchmarks.samples_auto"):
        _measure(arguments, command("python -m benchmarks.samples_auto", parser, arguments))


def _measure(arguments: argparse.Namespace, typed: str) -> None:
    segmenter = Segmenter.load(arguments.bundle)
    images = drawn_once(segmenter, arguments.data, arguments.images)
    rows = [of_rule(f"N = {n}", images, [n] * len(images)) for n in FIXED]
    for tolerance in TOLERANCES:
        name = f"auto, {tolerance:g}" + (", the default" if tolerance == TOLERANCE else "")
        rows.append(of_rule(name, images, [image.drawn(tolerance) for image in images]))
    results = Path(__file__).parent / "results"
    stem = f"samples_auto_{segmenter.manifest.name}_{datetime.now(UTC).date().isoformat()}"
    (results / f"{stem}.md").write_text(page(stem, segmenter, images, rows, typed))
    plot(rows, results / f"{stem}.png")
    print(table(images, rows))


def drawn_once(segmenter: Segmenter, data: Path, images: int) -> list[Prefixes]:
    """Draw the most samples for evenly spaced images of val."""
    classes = segmenter.manifest.classes
    cases = read_cases(data, "val", len(classes), classes[0]).evenly(images)
    found = []
    for case, result in SampleSettings(samples=MAX_SAMPLES).segment_all(segmenter, track(cases, "drawing")):
        box = result.placement.seen
        field = np.s_[:, box.y : box.y + box.height, box.x : box.x + box.width]
        found.append(Prefixes.of(case.group, result.masks[field], (case.masks > 0)[field]))
    return found


def of_rule(rule: str, images: list[Prefixes], drawn: list[int]) -> Row:
    """Gather the figures of a rule that draws so many samples of each image."""
    pairs = list(zip(images, drawn, strict=True))
    return Row(
        rule,
        np.array(drawn),
        np.array([image.ged[n] for image, n in pairs]),
        np.array([image.brier[n] for image, n in pairs]),
        np.array([image.brier_marked[n] for image, n in pairs]),
    )


def worse(values: Float64, reference: Float64, groups: list[str]) -> str:
    """Return the ratio of two means over the same images, with its 95 % interval over patients."""
    names = sorted(set(groups))
    sums = np.array([[(v[np.array(groups) == name]).sum() for v in (values, reference)] for name in names])
    draws = sums[np.random.default_rng(0).integers(0, len(names), (BOOTSTRAP_DRAWS, len(names)))].sum(axis=1)
    low, high = np.quantile(draws[:, 0] / draws[:, 1], [0.025, 0.975])
    return f"{values.mean() / reference.mean():.3f} ({low:.3f} to {high:.3f})"


def table(images: list[Prefixes], rows: list[Row]) -> str:
    """Return the curve as a table in Markdown."""
    groups = [image.group for image in images]
    reference = next(row for row in rows if row.rule == f"N = {REFERENCE}")
    lines = [
        f"| rule | drawn: median | mean | p90 | GED | Brier | over that of N = {REFERENCE} | Brier, marked pixels | over that of N = {REFERENCE} |",
        "|" + "---|" * 9,
    ]
    lines += [
        f"| {row.rule} | {np.median(row.drawn):g} | {row.drawn.mean():.1f} | {np.quantile(row.drawn, 0.9):g} "
        f"| {row.ged.mean():.4f} | {row.brier.mean():.5f} | {worse(row.brier, reference.brier, groups)} "
        f"| {row.brier_marked.mean():.5f} | {worse(row.brier_marked, reference.brier_marked, groups)} |"
        for row in rows
    ]
    return "\n".join(lines)


def page(stem: str, segmenter: Segmenter, images: list[Prefixes], rows: list[Row], typed: str) -> str:
    """Return the page as Markdown."""
    sampling = segmenter.manifest.sampling
    return (
        f"# {stem}\n\n"
        f"{len(images)} images of {len({image.group for image in images})} patients of the split `val`, sampler {sampling.sampler}, "
        f"{sampling.steps} steps; {segmenter.backend.name} {segmenter.backend.version} {segmenter.backend.precision}, "
        f"bundle sha256 {segmenter.bundle_sha256[:12]}; {processor()}.\n"
        f"Command: `{typed}`. "
        "Ratios with 95 % intervals, bootstrap over patients.\n\n"
        f"`--samples auto` draws {FIRST} samples, then {NEXT} more at a time, until the standard error of the confidence, as root mean "
        f"square over the field, is at most the tolerance (`runtime/medseg_runtime/result/stopping.py`), or {MAX_SAMPLES} are drawn.\n\n"
        f"{table(images, rows)}\n\n"
        "Brier: mean squared difference of the confidence and the raters' mean over the field's pixels, the same pixels for every rule. "
        "Over marked pixels, as `medseg-train evaluate` reports it, only those count that a sample or a rater marked: more samples mark "
        "more pixels with a low confidence, which lowers that mean by itself, so it compares models at one N better than numbers of samples.\n\n"
        f"![Brier score and GED against the mean number of samples]({stem}.png)\n"
    )


def plot(rows: list[Row], path: Path) -> None:
    """Draw Brier score and GED against the mean number of samples, fixed numbers and auto."""
    figure, both = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for axes, name, label in zip(both, ("brier", "ged"), ("Brier score over the field", "GED"), strict=True):
        for auto, marker in ((False, "s"), (True, "o")):
            chosen = [row for row in rows if row.rule.startswith("auto") == auto]
            x, y = [row.drawn.mean() for row in chosen], [getattr(row, name).mean() for row in chosen]
            axes.plot(x, y, marker=marker, label="auto, by tolerance" if auto else "the same N for every image")
            for row, at in zip(chosen, zip(x, y, strict=True), strict=True):
                if not auto or row is chosen[0] or row is chosen[-1] or "default" in row.rule:
                    text, shift = (row.rule.split(", ")[1], (-6, -13)) if auto else (row.rule.split()[-1], (6, 6))
                    axes.annotate(text, at, xytext=shift, textcoords="offset points", fontsize=8)
        axes.set(xlabel="mean number of samples drawn", ylabel=f"{label} (lower is better)")
        axes.grid(alpha=0.3)
    both[0].legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
