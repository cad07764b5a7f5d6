"""Compare a segmenter with one or several raters on a split.

A run in torch and a bundle on any backend are both a `Segmenter`, and are measured by the same code, at the resolution of each
image. One image is in memory at a time.
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

from PIL import Image
from rich.progress import track

from medseg_runtime.errors import OutputError, ParameterError
from medseg_runtime.files.replace import replacing
from medseg_runtime.files.typed_json import typed
from medseg_runtime.inference.segmenter import Segmenter
from medseg_runtime.result.metrics import ReliabilityBin
from medseg_runtime.result.segmentation import Segmentation
from medseg_trainer.data.layouts import Case, Cases, Split, layout_of, read_cases
from medseg_trainer.evaluation.sheet import render_evaluation
from medseg_trainer.evaluation.statistics import MANY, CaseFigures, Figure, measure, pooled, summarise

SHOWN_PER_RANK = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """The metrics of a model on a split, and how they were measured."""

    model: str
    bundle_sha256: str
    kept: str
    """Which weights of a training these are; empty if unknown."""
    split: Split
    images: int
    groups: int
    grouped_by: str
    """The units that the intervals are bootstrapped over: patients, images, video sequences."""
    samples: int
    steps: int
    sampler: str
    seed: int
    backend: str
    date: str
    command: str
    seconds: float
    figures: dict[str, Figure]
    """By the keys of `statistics.TITLES`."""
    reliability: tuple[ReliabilityBin, ...]

    def to_json(self) -> str:
        """Return it as JSON; an undefined metric is null."""
        return json.dumps(_rounded(dataclasses.asdict(self)), indent=2) + "\n"

    @classmethod
    def from_content(cls, content: dict[str, Any]) -> Evaluation:
        """Return what `to_json` wrote, once it is parsed; null is NaN.

        Raises:
            TypeError: a field is missing, unknown or of another type.
        """
        found: Evaluation = typed(cls, _with_nan(content), "it")
        return found


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleSettings:
    """How each image is sampled."""

    samples: int = 16
    steps: int | None = None
    """None: the segmenter's default."""
    seed: int = 0

    def segment(self, segmenter: Segmenter, case: Case, number: int) -> Segmentation:
        """Segment case `number` of a split. Its noise has the seed `seed + 1000 * number`."""
        return segmenter(case.source, samples=self.samples, steps=self.steps, seed=self.seed + 1000 * number)

    def segment_all(self, segmenter: Segmenter, cases: Iterable[Case]) -> Iterator[tuple[Case, Segmentation]]:
        """Yield each case with its result."""
        for number, case in enumerate(cases):
            yield case, self.segment(segmenter, case, number)


def split_named(name: str) -> Split:
    """Return the split of a name.

    Raises:
        ParameterError: there is no such split.
    """
    for split in get_args(Split):
        if split == name:
            found: Split = split
            return found
    raise ParameterError(f"there is no split {name!r}", "Use train, val or test.")


def evaluate(
    segmenter: Segmenter,
    data: Path,
    split: Split,
    *,
    samples: int = 16,
    steps: int | None = None,
    seed: int = 0,
    images: int | None = None,
    ged_100: bool = False,
    sheet: Path | None = None,
) -> Evaluation:
    """Evaluate a segmenter on a split.

    images: number of images, evenly spaced; None: all.
    ged_100: draw 100 samples and add the GED of all; the other metrics are those of the first `samples`.
    sheet: PNG file for the best, median and worst images by GED, and the reliability diagram.

    Raises:
        DataError: the data are missing, or images and masks do not pair.
        OutputError: the sheet cannot be written.
    """
    started = time.monotonic()
    classes = segmenter.manifest.classes
    cases = read_cases(data, split, len(classes), classes).evenly(images)
    settings = SampleSettings(samples=max(samples, MANY) if ged_100 else samples, steps=steps, seed=seed)
    figures: list[list[CaseFigures]] = []
    result = None
    for case, result in settings.segment_all(segmenter, track(cases, f"evaluating {split}")):
        figures.append(measure(case, result, samples))
    assert result is not None
    measured = [one for of_image in figures for one in of_image]
    reliability = pooled(measured).reliability
    if sheet is not None:
        ranked = _ranked([sum(one.values["ged"] for one in of_image) / len(of_image) for of_image in figures])
        shown = _shown(segmenter, cases, replace(settings, samples=samples), ranked)
        _save(render_evaluation(shown, reliability), sheet)
    target, options = ("BUNDLE", f" --backend {segmenter.backend.name}") if segmenter.bundle_sha256 else ("RUN", "")
    options += ("" if images is None else f" --images {images}") + (" --ged100" if ged_100 else "")
    return Evaluation(
        model=segmenter.manifest.name,
        bundle_sha256=segmenter.bundle_sha256,
        kept=segmenter.manifest.training.get("kept", ""),
        split=split,
        images=len(cases),
        groups=cases.num_groups,
        grouped_by=layout_of(data, classes[0]).grouped_by,
        samples=samples,
        steps=result.steps,
        sampler=result.sampler,
        seed=seed,
        backend=f"{segmenter.backend.name} {segmenter.backend.version} {segmenter.backend.precision}",
        date=datetime.now(UTC).date().isoformat(),
        command=f"medseg-train evaluate {target} --data DATA --split {split} --samples {samples} --steps {result.steps} --seed {seed}{options}",
        seconds=round(time.monotonic() - started, 1),
        figures=summarise(measured),
        reliability=reliability,
    )


def _ranked(geds: list[float]) -> list[tuple[int, str]]:
    """Return the best, median and worst images by GED, each once: number and caption."""
    order = sorted(range(len(geds)), key=lambda number: geds[number])
    middle = max(len(order) // 2 - SHOWN_PER_RANK // 2, 0)
    ranks = {
        "best": order[:SHOWN_PER_RANK],
        "median": order[middle : middle + SHOWN_PER_RANK],
        "worst": order[-SHOWN_PER_RANK:],
    }
    shown: dict[int, str] = {}
    for rank, numbers in ranks.items():
        for number in numbers:
            shown.setdefault(number, f"{rank}: GED {geds[number]:.3f}")
    return list(shown.items())


def _shown(
    segmenter: Segmenter, cases: Cases, settings: SampleSettings, ranked: list[tuple[int, str]]
) -> list[tuple[str, Case, Segmentation]]:
    """Segment the shown images again: keeping the masks of all images would take more memory."""
    found = [(caption, number, cases[number]) for number, caption in ranked]
    return [(caption, case, settings.segment(segmenter, case, number)) for caption, number, case in found]


def _save(picture: Image.Image, path: Path) -> None:
    """Write a picture, but not through a link or into a pipe."""
    try:
        with replacing(path) as temporary:
            picture.save(temporary)
    except OSError as error:
        raise OutputError(f"{path.name!r} cannot be written: {error.strerror}", "Choose another --out.") from error


def _with_nan(value: Any) -> Any:
    """Turn None into NaN."""
    if isinstance(value, dict):
        return {key: _with_nan(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_with_nan(entry) for entry in value]
    return math.nan if value is None else value


def _rounded(value: Any) -> Any:
    """Round floats to five decimals and turn NaN into None."""
    if isinstance(value, float):
        return None if math.isnan(value) else round(value, 5)
    if isinstance(value, dict):
        return {key: _rounded(entry) for key, entry in value.items()}
    return [_rounded(entry) for entry in value] if isinstance(value, (list, tuple)) else value
