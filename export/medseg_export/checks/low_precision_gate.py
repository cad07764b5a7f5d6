"""Low-precision graphs are published only if they draw the same masks: float16 where it can, bfloat16 where float16 overflows.

Four judges, because each is blind to something: float32 ranges (ONNX Runtime's CPU provider computes float16 graphs in float32 and
cannot overflow), ONNX's own evaluator (truly low precision, but slow: one image), parity at times from 1 to 999 (a time embedding in
float16 errs at the late ones only), and the masks themselves, on as many images as there are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from medseg_export.checks.parity import TIMES, Check, check_graphs, synthetic_image, time_errors
from medseg_export.checks.ranges import Peak, Ranges
from medseg_export.checks.reference import ReferenceBackend
from medseg_export.graphs.low_precision import DTYPES, LowPrecision, half_graphs, lowered
from medseg_runtime.backends.base import Backend
from medseg_runtime.backends.host_loop import HostLoop
from medseg_runtime.backends.registry import open_backend
from medseg_runtime.errors import BackendError, ExportError
from medseg_runtime.inference.segmenter import Segmenter
from medseg_runtime.model.bundle import Bundle, Manifest
from medseg_runtime.model.preprocess import Pixels
from medseg_runtime.model.signatures import GraphName
from medseg_runtime.result.metrics import dice
from medseg_runtime.result.segmentation import Segmentation
from medseg_trainer.data.layouts import layout_of, read_cases
from medseg_trainer.models.graphs import Networks, TorchBackend

SAMPLES = 16
MAX_IMAGES = 100
LARGEST_FLOAT16 = float(torch.finfo(torch.float16).max)
HEADROOM = 4.0
"""Images that were not measured may go so many times further than those that were."""
SPACINGS = 4.0
"""Largest difference of a graph's outputs, relative to the largest output, in spacings of the type at 1."""
FLATNESS = 4.0
"""Largest error over network times, relative to the median: rounding does not know the time."""
LEAST_DICE: dict[LowPrecision, float] = {"float16": 0.995, "bfloat16": 0.99}
REFERENCE_SAMPLES = 2
REFERENCE_PROBABILITY = 0.02
"""Largest difference of a mean probability of two samples, by ONNX's evaluator."""


@dataclass(frozen=True, slots=True)
class Images:
    """What the masks are compared on."""

    pixels: Sequence[Pixels]
    source: str

    @classmethod
    def synthetic(cls, manifest: Manifest) -> Images:
        """Return the one image that parity is checked on, for an export that is given no data."""
        return cls([synthetic_image(manifest)], "1 synthetic image")

    @classmethod
    def of_val(cls, data: Path, manifest: Manifest) -> Images:
        """Return up to 100 val images of a data set, evenly spaced.

        Raises:
            DataError: the data are missing, or do not pair.
        """
        cases = read_cases(data, "val", len(manifest.classes), manifest.classes[0]).evenly(MAX_IMAGES)
        return cls(
            [case.image for case in cases], f"{len(cases)} val images of {layout_of(data, manifest.classes[0]).name}"
        )


@dataclass(slots=True)
class Trial:
    """One precision, its graphs as far as they were made, and what was found."""

    precision: LowPrecision
    checks: list[Check] = field(default_factory=list)
    graphs: dict[GraphName, bytes] = field(default_factory=dict)
    errors_by_time: dict[float, float] = field(default_factory=dict)
    dice: float = float("nan")
    """Mean over pairs of masks from the same noise, low precision and float32."""
    failure: str = ""
    """Why the checks were not carried out to the end: a network returned no numbers."""

    @property
    def passed(self) -> bool:
        """Whether every check was reached and held."""
        return bool(self.graphs) and not self.failure and all(check.passed for check in self.checks)

    def missed(self) -> str:
        """Say what did not hold."""
        figures = [
            f"{check.name} {check.error:.2g} (at most {check.tolerance:.2g})"
            for check in self.checks
            if not check.passed
        ]
        return ", ".join([*figures, self.failure] if self.failure else figures)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The trial that passed, those before it, and what they were judged on."""

    taken: Trial
    refused: list[Trial]
    ranges: Ranges
    images: Images

    def describe(self) -> dict[str, object]:
        """Return what bundle.json keeps of it."""
        largest, norm_input = self.ranges.largest, self.ranges.norm_input
        return {
            "precision": self.taken.precision,
            "images": self.images.source,
            "samples": SAMPLES,
            "dice": round(self.taken.dice, 5),
            "checks": {
                check.name: {"found": float(f"{check.error:.2e}"), "at most": float(f"{check.tolerance:.4g}")}
                for check in self.taken.checks
            },
            "denoiser error by network time": {
                f"{t:g}": float(f"{e:.2e}") for t, e in self.taken.errors_by_time.items()
            },
            "largest magnitude": {"value": float(f"{largest.value:.4g}"), "where": largest.where},
            "largest norm input": {"value": float(f"{norm_input.value:.4g}"), "where": norm_input.where},
            "refused": {trial.precision: trial.missed() for trial in self.refused},
        }


def judge(networks: Networks, manifest: Manifest, images: Images) -> Verdict:
    """Make low-precision graphs of networks, float16 if that passes every check, otherwise bfloat16.

    networks: with the weights that the float32 graphs store.

    Raises:
        ExportError: neither passes, or one cannot be exported.
    """
    trained = TorchBackend(networks)
    with Ranges(networks) as ranges:
        expected = draw(manifest, trained, images)
    trials: list[Trial] = []
    for precision in DTYPES:
        trial = attempt(precision, networks, manifest, images, expected, ranges.largest)
        if trial.passed:
            return Verdict(trial, trials, ranges, images)
        trials.append(trial)
    raise ExportError(
        "the network draws other masks in low precision: "
        + "; ".join(f"{trial.precision}: {trial.missed()}" for trial in trials),
        "Export without --half, --trt and --trt-rtx: the float32 graphs are not concerned.",
    )


def draw(manifest: Manifest, backend: Backend, images: Images) -> list[Segmentation]:
    """Segment every image, each from noise of its own."""
    segmenter = Segmenter(manifest, backend)
    return [segmenter(pixels, samples=SAMPLES, seed=1000 * k) for k, pixels in enumerate(images.pixels)]


def attempt(
    precision: LowPrecision,
    networks: Networks,
    manifest: Manifest,
    images: Images,
    expected: list[Segmentation],
    largest: Peak,
) -> Trial:
    """Make the graphs of one precision and judge them; float16 first by its range, which bfloat16 shares with float32."""
    trial = Trial(precision)
    if precision == "float16":
        range_check = Check(f"largest magnitude ({largest.where})", largest.value, LARGEST_FLOAT16 / HEADROOM)
        trial.checks.append(range_check)
        if not range_check.passed:
            return trial
    low = lowered(networks, precision)
    trial.graphs = half_graphs(low, manifest, precision)
    # ONNX Runtime's CPU provider has no bfloat16: torch then draws the masks
    engine = _onnx_runtime(manifest, trial.graphs) if precision == "float16" else TorchBackend(low)
    compare(trial, manifest, TorchBackend(networks), engine, images, expected)
    return trial


def _onnx_runtime(manifest: Manifest, graphs: dict[GraphName, bytes]) -> HostLoop:
    backend = open_backend("onnxruntime", Bundle(Path(), manifest, "", graphs))
    assert isinstance(backend, HostLoop)
    return backend


def compare(
    trial: Trial,
    manifest: Manifest,
    trained: HostLoop,
    exported: HostLoop,
    images: Images,
    expected: list[Segmentation],
) -> None:
    """Hold a trial's graphs against torch in float32, and add what is found to it; the first kind of check that fails is the last.

    exported: runs the graphs, or the low-precision networks they were made of, fast enough for many images.
    """
    tolerance = SPACINGS * torch.finfo(DTYPES[trial.precision]).eps
    reference = ReferenceBackend(manifest, trial.graphs, trial.precision)

    def graphs() -> list[Check]:
        return check_graphs(manifest, trained, exported, tolerance=tolerance)

    def times() -> list[Check]:
        trial.errors_by_time = time_errors(manifest, trained, exported)
        errors = np.array(list(trial.errors_by_time.values()))
        return [Check("error at the worst time over the median", float(errors.max() / np.median(errors)), FLATNESS)]

    def evaluator() -> list[Check]:
        few = check_graphs(manifest, trained, reference, batches=(1,), times=(TIMES[0], TIMES[-1]), tolerance=tolerance)
        few = [replace(check, name=f"{check.name}, {reference.name}") for check in few]
        return [*few, _reference_sampling(manifest, trained, reference, images)]

    def masks() -> list[Check]:
        trial.dice = mean_dice(draw(manifest, exported, images), expected)
        return [Check("1 - Dice of the masks", 1.0 - trial.dice, 1.0 - LEAST_DICE[trial.precision])]

    kinds: tuple[Callable[[], list[Check]], ...] = (graphs, times, evaluator, masks)
    for kind in kinds:
        try:
            trial.checks += kind()
        except BackendError as error:  # NaN or infinite outputs
            trial.failure = error.problem
        if not trial.passed:
            return


def _reference_sampling(manifest: Manifest, trained: Backend, reference: Backend, images: Images) -> Check:
    few = [
        Segmenter(manifest, backend)(images.pixels[0], samples=REFERENCE_SAMPLES) for backend in (trained, reference)
    ]
    error = float(np.abs(few[0].mean_probability - few[1].mean_probability).max())
    return Check(f"mean probability of {REFERENCE_SAMPLES} samples, {reference.name}", error, REFERENCE_PROBABILITY)


def mean_dice(found: list[Segmentation], expected: list[Segmentation]) -> float:
    """Return the mean Dice of pairs of masks that started from the same noise; two empty masks agree."""
    scores = [
        dice(a, b)
        for one, other in zip(found, expected, strict=True)
        for a, b in zip(_outlines(one), _outlines(other), strict=True)
    ]
    return float(np.mean(scores))


def _outlines(result: Segmentation) -> npt.NDArray[np.bool_]:
    """Masks (N, H, W) or (N, classes, H, W) => (all of them, H, W)."""
    return result.masks.reshape(-1, *result.masks.shape[-2:])
