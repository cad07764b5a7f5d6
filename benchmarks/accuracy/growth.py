"""Measure whether samples of two dates should be paired by their number, and what the samples' volumes are worth.

python -m benchmarks.accuracy.growth --data DATA [--nodules 80] [--study FOLDER --at X,Y,Z]

Volume: a nodule is the sum of its slices. Sample k of all slices together is one volume, as is rater j. Shuffled samples, another order in
each slice, are what a sample's number that means nothing would give.

Growth: no public set has two dates of one nodule with several raters. So the second date is the first, enlarged in the plane by a known
factor and with fresh noise. The samples of both dates give ratios, paired by number or in all pairs.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure as Picture
from PIL import Image
from rich.progress import track

from benchmarks.accuracy.identity import SLICE
from benchmarks.common.machine import inspect_machine
from benchmarks.common.page import RESULTS, Page, Plot, Record, Section
from benchmarks.common.script import command_line, one_line_errors, today
from benchmarks.common.tables import table
from medseg_runtime import Segmenter, measure, read_series
from medseg_runtime.model.preprocess import Pixels
from medseg_runtime.result.growth import GROWTH_PERCENT
from medseg_trainer.data.layouts import Case, read_cases
from medseg_trainer.evaluation.statistics import Figure, averages

Float64 = npt.NDArray[np.float64]

PROGRAM = "python -m benchmarks.accuracy.growth"
SLICES = range(3, 9)
"""Of the nodules that are measured."""
SIDES = (128, 156)
"""To which a crop of 128 px is enlarged: areas and volumes grow by 0 and by 49 %."""
NOISE = 3.0
"""Standard deviation of the second date's noise, of 255 grey levels."""
SHUFFLES = 20
STUDY_SLICES = 11


@dataclass(frozen=True, kw_only=True, slots=True)
class GrowthOfNodules(Record):
    """All nodules."""

    model: str
    bundle_sha256: str
    backend: str
    samples: int
    seed: int
    slices: int
    nodules: int
    patients: int
    volume: dict[str, Figure]
    growth: dict[str, dict[str, Figure]]
    """For each true growth in percent."""
    study: dict[str, float] | None
    """Volumes in mm3 of a finding in a DICOM series, if one was given."""


def main() -> None:
    """Sample, measure, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--bundle", type=Path, help="default: the shipped bundle")
    parser.add_argument("--nodules", type=int, default=80, help="so many of val, evenly chosen")
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--study", type=Path, help="a DICOM series with a finding")
    parser.add_argument("--at", help="X,Y,Z of the finding: pixels, and the slice from 0")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    with one_line_errors(PROGRAM):
        print(page(run_growth(given, command_line(PROGRAM, parser, given))).write(given.out))


def run_growth(given: argparse.Namespace, command: str) -> GrowthOfNodules:
    """Measure every nodule."""
    start, machine, seed = time.monotonic(), inspect_machine(), 0
    segmenter = Segmenter.load(given.bundle)
    classes = segmenter.manifest.classes
    found = list(nodules_of(read_cases(given.data, "val", len(classes), classes)))
    count = min(given.nodules, len(found))
    nodules = [found[k * len(found) // count] for k in range(count)]
    volumes: list[tuple[str, Mapping[str, float]]] = []
    growths: dict[str, list[tuple[str, Mapping[str, float]]]] = {percent(side): [] for side in SIDES}
    for slices in track(nodules, "sampling"):
        group = slices[0].group
        before = areas_of(segmenter, [case.image for case in slices], given.samples, seed)
        raters = np.array([np.count_nonzero(case.masks, axis=(1, 2)) for case in slices], np.float64)
        volumes.append((group, volume_figures(before, raters.sum(axis=0))))
        for side in SIDES:
            images = [enlarged(case.image, side, index) for index, case in enumerate(slices)]
            after = areas_of(segmenter, images, given.samples, seed)
            figures = growth_figures(before.sum(axis=0), after.sum(axis=0), (side / SIDES[0]) ** 2)
            growths[percent(side)].append((group, figures))
    return GrowthOfNodules(
        date=today(),
        command=command,
        machine=machine,
        seconds=time.monotonic() - start,
        model=segmenter.manifest.name,
        bundle_sha256=segmenter.bundle_sha256,
        backend=f"{segmenter.backend.name} {segmenter.backend.version} {segmenter.backend.precision}",
        samples=given.samples,
        seed=seed,
        slices=sum(map(len, nodules)),
        nodules=len(nodules),
        patients=len({slices[0].group for slices in nodules}),
        volume=averages(volumes),
        growth={name: averages(values) for name, values in growths.items()},
        study=None if given.study is None else study_figures(segmenter, given, seed),
    )


def nodules_of(cases: Iterable[Case]) -> Iterator[list[Case]]:
    """Yield the slices of each nodule with enough of them, in order."""

    def place(case: Case) -> tuple[str, int]:
        found = SLICE.fullmatch(case.name)
        return (case.name, 0) if found is None else (found["sequence"], int(found["number"]))

    for _, group in groupby(sorted(cases, key=place), key=lambda case: place(case)[0]):
        slices = list(group)
        if len(slices) in SLICES:
            yield slices


def percent(side: int) -> str:
    """Name the growth of an enlarged crop."""
    return f"{100 * ((side / SIDES[0]) ** 2 - 1):.0f} %"


def enlarged(image: Pixels, side: int, seed: int) -> Pixels:
    """Return a square crop enlarged round its center, of the same size, with fresh noise."""
    first = (side - SIDES[0]) // 2
    picture = np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC), np.float64)
    noisy = picture[first : first + SIDES[0], first : first + SIDES[0]]
    noisy = noisy + np.random.default_rng((side, seed)).normal(0.0, NOISE, noisy.shape)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


def areas_of(segmenter: Segmenter, images: Sequence[Pixels], samples: int, seed: int) -> Float64:
    """Return the pixels of each sample in each slice, (slices, N)."""
    return np.array([segmenter(image, samples=samples, seed=seed).areas for image in images], np.float64)


def shuffled(areas: Float64) -> Float64:
    """Return volumes (SHUFFLES, N) of samples that have another order in each slice: areas (slices, N)."""
    random = np.random.default_rng(0)
    return np.array([random.permuted(areas, axis=1).sum(axis=0) for _ in range(SHUFFLES)])


def volume_figures(areas: Float64, raters: Float64) -> dict[str, float]:
    """Compare the volumes of samples with those of raters (R,): areas (slices, N)."""
    scale = raters.mean()
    orders = {"paired": areas.sum(axis=0)[None], "shuffled": shuffled(areas)}
    figures = {"spread raters": float(raters.std(ddof=1) / scale)}
    for name, sets in orders.items():
        figures[f"spread {name}"] = float(np.mean([volumes.std(ddof=1) for volumes in sets]) / scale)
        figures[f"covered {name}"] = float(np.mean([inside(volumes, raters) for volumes in sets]))
        figures[f"crps {name}"] = float(np.mean([crps(volumes, raters) for volumes in sets]) / scale)
    for what in ("spread", "covered", "crps"):
        figures[f"{what} difference"] = figures[f"{what} paired"] - figures[f"{what} shuffled"]
    return figures


def inside(samples: Float64, values: Float64) -> float:
    """Return the share of values between the 5th and the 95th percentile of samples."""
    low, high = np.percentile(samples, [5, 95])
    return float(np.mean((values >= low) & (values <= high)))


def crps(samples: Float64, values: Float64) -> float:
    """Return the mean continuous ranked probability score (Gneiting and Raftery 2007, Eq. 21): 0 is best, in the samples' unit."""
    return float(np.abs(samples[:, None] - values).mean() - np.abs(samples[:, None] - samples).mean() / 2)


def growth_figures(before: Float64, after: Float64, true: float) -> dict[str, float]:
    """Compare ratios of samples, paired by number and in all pairs, with the true one; NaN where fewer than half show it twice."""
    both = (before > 0) & (after > 0)
    pairings = {
        "paired": after[both] / before[both],
        "all pairs": (after[after > 0][:, None] / before[before > 0]).ravel(),
    }
    figures = {}
    for name, ratios in pairings.items():
        known = 2 * np.count_nonzero(both) >= len(both)
        low, high = np.percentile(ratios, [5, 95]) if known else (np.nan, np.nan)
        grown = float(np.mean(ratios > 1 + GROWTH_PERCENT / 100)) if known else np.nan
        figures[f"width {name}"] = float(np.log(high / low))
        figures[f"covered {name}"] = float(low <= true <= high) if known else np.nan
        figures[f"grown {name}"] = grown
    return figures


def study_figures(segmenter: Segmenter, given: argparse.Namespace, seed: int) -> dict[str, float]:
    """Measure a finding in a DICOM series by `measure`, and with another seed in each slice."""
    x, y, z = (float(part) for part in given.at.split(","))
    images = read_series(given.study).around(int(z), STUDY_SLICES)
    paired = [segmenter(image, samples=given.samples, seed=seed, center=(x, y)) for image in images]
    (measured,) = measure(paired)
    assert measured.volume is not None
    volume = measured.volume
    spreads = shuffled(np.array([result.areas for result in paired], np.float64)).std(axis=1, ddof=1)
    total = np.array([result.areas for result in paired], np.float64).sum(axis=0)
    return {
        "slices": float(len(images)),
        "presence": measured.presence,
        "median": volume.median,
        "p5": volume.low,
        "p95": volume.high,
        "long axis": measured.long_axis.median,
        "spread paired": volume.standard_deviation,
        "spread shuffled": float(volume.standard_deviation * spreads.mean() / total.std(ddof=1)),
    }


def page(record: GrowthOfNodules) -> Page:
    """Lay out the page."""
    return Page(
        kind="growth",
        subject=record.model,
        title="Volumes of samples, and growth between two dates",
        record=record,
        data=(
            f"{record.nodules:,} nodules of {record.patients} patients, {record.slices:,} slices of the split `val`, {SLICES[0]} to "
            f"{SLICES[-1]} slices a nodule; {record.samples} samples each"
        ),
        seed=record.seed,
        facts={"Bundle": f"sha256 {record.bundle_sha256[:12]}", "Backend": record.backend},
        introduction=(
            (
                "Sample k of all slices of a nodule together is one volume, and so is rater j. Are the samples' volumes spread like the raters'? "
                "Shuffled samples, in another order in each slice, show what a volume would be if a sample's number meant nothing."
            ),
            (
                "`medseg-compare` divides the volume of sample k at the second date by that of sample k at the first. Should it take all pairs of samples "
                "instead? No public set has two dates of one nodule with several raters. So the second date is made here: the first one, enlarged in the plane "
                f"by a known factor, with noise of {NOISE:g} of 255 grey levels. Real follow-ups differ more: in breath, position and scanner."
            ),
        ),
        plot=Plot("Probability of a growth above 25 %, and the width of the ratio", lambda: _paint(record)),
        sections=(
            Section(
                "Volumes",
                (
                    _volume_table(record.volume),
                    "In units of the raters' mean volume. 95 % intervals, bootstrap over patients.",
                ),
            ),
            Section(
                "Growth",
                (
                    _growth_table(record.growth),
                    "Nodules that fewer than half of the sample pairs show twice are left out.",
                ),
            ),
            *([] if record.study is None else [Section("A finding in a chest CT", (_study(record.study),))]),
        ),
    )


def _volume_table(figures: Mapping[str, Figure]) -> str:
    rows = [
        (title, *(_interval(figures[f"{what} {kind}"]) for what in ("spread", "covered", "crps")))
        for kind, title in (
            ("paired", "sample k with sample k"),
            ("shuffled", "shuffled"),
            ("difference", "difference"),
        )
    ]
    raters = ("raters", _interval(figures["spread raters"]), "", "")
    return table(("volumes of", "standard deviation", "raters in 5 to 95 %", "CRPS to the raters"), [raters, *rows])


def _growth_table(growth: Mapping[str, Mapping[str, Figure]]) -> str:
    rows = [
        (
            true,
            pairs,
            f"{np.exp(figures[f'width {pairs}'].mean):.2f}",
            *(_interval(figures[f"{what} {pairs}"]) for what in ("covered", "grown")),
        )
        for true, figures in growth.items()
        for pairs in ("paired", "all pairs")
    ]
    header = (
        "true growth",
        "samples",
        "95th / 5th percentile of the ratio",
        "true ratio in 5 to 95 %",
        "probability of growth > 25 %",
    )
    return table(header, rows)


def _study(figures: Mapping[str, float]) -> str:
    return (
        f"{figures['slices']:.0f} slices: {figures['median']:,.0f} mm3 ({figures['p5']:,.0f} to {figures['p95']:,.0f}), long axis "
        f"{figures['long axis']:.1f} mm, not empty in {figures['presence']:.0%}. The standard deviation of the volume is {figures['spread paired']:,.0f} mm3, "
        f"and {figures['spread shuffled']:,.0f} mm3 if the samples of each slice are shuffled."
    )


def _interval(figure: Figure) -> str:
    return f"{figure.mean:.3f} ({figure.low:.3f} to {figure.high:.3f})"


def _paint(record: GrowthOfNodules) -> Picture:
    """Paint probability of growth and width of the ratio by the true growth."""
    picture, panels = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    places = np.arange(len(record.growth))
    for axes, what, label in (
        (panels[0], "grown", "probability of growth > 25 %"),
        (panels[1], "width", "95th / 5th percentile of the ratio"),
    ):
        for offset, pairs in ((-0.2, "paired"), (0.2, "all pairs")):
            found = [figures[f"{what} {pairs}"] for figures in record.growth.values()]
            means = np.array([figure.mean for figure in found])
            spread = [means - [figure.low for figure in found], [figure.high for figure in found] - means]
            if what == "width":
                axes.bar(places + offset, np.exp(means), width=0.38, label=pairs)
            else:
                axes.bar(places + offset, means, width=0.38, yerr=spread, capsize=3, label=pairs)
        axes.set(xlabel="true growth", ylabel=label, xticks=places, xticklabels=list(record.growth))
        axes.grid(axis="y", alpha=0.3)
    panels[0].legend()
    return picture


if __name__ == "__main__":
    main()
