"""Publish low-precision graphs only if they draw the same masks: in float16, or in bfloat16 where float16 overflows.

Four kinds of check, because each misses something:

- float32 ranges: ONNX Runtime's CPU provider computes float16 graphs in float32 and cannot overflow
- ONNX's reference evaluator: computes in low precision, but slowly, so on one image
- parity at network times from 1 to 999: a time embedding in float16 errs at late times only
- the masks, on up to 100 images
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from medseg_export.checks.parity import TIMES, Comparison, compare_graphs, synthetic_image, time_errors
from medseg_export.checks.ranges import Peak, Ranges
from medseg_export.checks.reference import ReferenceBackend
from medseg_export.graphs.low_precision import DTYPES, LowPrecision, low_precision_graphs, to_low_precision
from medseg_runtime.backends.base import Backend
from medseg_runtime.backends.host_loop import HostLoop
from medseg_runtime.backends.opening import open_backend
from medseg_runtime.errors import BackendError, ExportError
from medseg_runtime.inference.segmenter import Segmenter
from medseg_runtime.model.bundle import Bundle, Manifest
from medseg_runtime.model.preprocess import Pixels
from medseg_runtime.model.signatures import GraphName
from medseg_runtime.readers.source import SourceImage
from medseg_runtime.result.metrics import dice
from medseg_runtime.result.segmentation import Segmentation
from medseg_trainer.data.layouts import layout_of, read_cases
from medseg_trainer.models.graphs import Networks, TorchBackend

SAMPLES = 16
MAX_IMAGES = 100
LARGEST_FLOAT16 = float(torch.finfo(torch.float16).max)
HEADROOM = 4.0
"""Safety factor of the float16 range, for images that were not measured."""
SPACINGS = 4.0
"""Largest difference of a graph's outputs, relative to the largest output, in units of the type's spacing at 1."""
FLATNESS = 4.0
"""Largest error over network times, relative to the median. Rounding alone errs about equally at all times."""
LEAST_DICE: dict[LowPrecision, float] = {"float16": 0.995, "bfloat16": 0.99}
REFERENCE_SAMPLES = 2
REFERENCE_PROBABILITY = 0.02
"""Largest difference of the mean probability of two samples, computed by ONNX's evaluator."""


@dataclass(frozen=True, slots=True)
class Images:
    """The images that masks are compared on, and a description of them."""

    pixels: Sequence[Pixels | SourceImage]
    source: str

    @classmethod
    def synthetic(cls, manifest: Manifest) -> Images:
        """Return the synthetic image of the parity check, for an export without data."""
        return cls([synthetic_image(manifest)], "1 synthetic image")

    @classmethod
    def of_val(cls, data: Path, manifest: Manifest) -> Images:
        """Return up to 100 evenly spaced val images of a data set.

        Raises:
            DataError: the data are missing, or images and masks do not pair.
        """
        cases = read_cases(data, "val", len(manifest.classes), manifest.classes).evenly(MAX_IMAGES)
        return cls(
            [case.source for case in cases], f"{len(cases)} val images of {layout_of(data, manifest.classes[0]).name}"
        )


@dataclass(slots=True)
class Trial:
    """One precision, its graphs and what the checks found."""

    precision: LowPrecision
    checks: list[Comparison] = field(default_factory=list)
    graphs: dict[GraphName, bytes] = field(default_factory=dict)
    errors_by_time: dict[float, float] = field(default_factory=dict)
    dice: float = float("nan")
    """Mean Dice of low-precision and float32 masks from the same noise."""
    failure: str = ""
    """Why the checks stopped early: a network returned NaN or infinite values."""

    @property
    def passed(self) -> bool:
        """Whether all checks ran and passed."""
        return bool(self.graphs) and not self.failure and all(check.passed for check in self.checks)

    def missed(self) -> str:
        """Return the checks that failed, as text."""
        figures = [
            f"{check.name} {check.error:.2g} (at most {check.tolerance:.2g})"
            for check in self.checks
            if not check.passed
        ]
        return ", ".join([*figures, self.failure] if self.failure else figures)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The trial that passed, the trials refused before it, and what they were judged on."""

    taken: Trial
    refused: list[Trial]
    ranges: Ranges
    images: Images

    def describe(self) -> dict[str, object]:
        """Return what bundle.json keeps of the verdict."""
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
    """Return low-precision graphs of the networks: float16 if it passes every check, otherwise bfloat16.

    networks: with weights rounded as in the float32 graphs, see `round_weights`.

    Raises:
        ExportError: neither precision passes, or a graph cannot be exported.
    """
    trained = TorchBackend(networks)
    with Ranges(networks) as ranges:
        expected = draw(manifest, trained, images)
    trials: list[Trial] = []
    for precision in DTYPES:
        trial = judge_precision(precision, networks, manifest, images, expected, ranges.largest)
        if trial.passed:
            return Verdict(trial, trials, ranges, images)
        trials.append(trial)
    raise ExportError(
        "the network draws different masks in low precision: "
        + "; ".join(f"{trial.precision}: {trial.missed()}" for trial in trials),
        "Export without --half, --trt and --trt-rtx: the float32 graphs are not affected.",
    )


def draw(manifest: Manifest, backend: Backend, images: Images) -> list[Segmentation]:
    """Segment every image, each with its own seed."""
    segmenter = Segmenter(manifest, backend)
    return [segmenter(pixels, samples=SAMPLES, seed=1000 * k) for k, pixels in enumerate(images.pixels)]


def judge_precision(
    precision: LowPrecision,
    networks: Networks,
    manifest: Manifest,
    images: Images,
    expected: list[Segmentation],
    largest: Peak,
) -> Trial:
    """Export one precision and check it. Only float16 has a range check: bfloat16 has the range of float32."""
    trial = Trial(precision)
    if precision == "float16":
        range_check = Comparison(f"largest magnitude ({largest.where})", largest.value, LARGEST_FLOAT16 / HEADROOM)
        trial.checks.append(range_check)
        if not range_check.passed:
            return trial
    low = to_low_precision(networks, precision)
    trial.graphs = low_precision_graphs(low, manifest, precision)
    # ONNX Runtime's CPU provider has no bfloat16, so torch draws those masks
    backend = _onnx_runtime(manifest, trial.graphs) if precision == "float16" else TorchBackend(low)
    run_checks(trial, manifest, TorchBackend(networks), backend, images, expected)
    return trial


def _onnx_runtime(manifest: Manifest, graphs: dict[GraphName, bytes]) -> HostLoop:
    backend = open_backend("onnxruntime", Bundle(Path(), manifest, "", graphs))
    assert isinstance(backend, HostLoop)
    return backend


def run_checks(
    trial: Trial,
    manifest: Manifest,
    trained: HostLoop,
    exported: HostLoop,
    images: Images,
    expected: list[Segmentation],
) -> None:
    """Compare a trial's graphs with torch in float32 and add the results to it. Stop after the first kind of check that fails.

    exported: a fast backend of the graphs, or of the low-precision networks they were exported from.
    expected: the float32 results of `draw` on the same images.
    """
    tolerance = SPACINGS * torch.finfo(DTYPES[trial.precision]).eps
    reference = ReferenceBackend(manifest, trial.graphs, trial.precision)

    def graphs() -> list[Comparison]:
        return compare_graphs(manifest, trained, exported, tolerance=tolerance)

    def times() -> list[Comparison]:
        trial.errors_by_time = time_errors(manifest, trained, exported)
        errors = np.array(list(trial.errors_by_time.values()))
        return [
            Comparison("error at the worst time over the median", float(errors.max() / np.median(errors)), FLATNESS)
        ]

    def evaluator() -> list[Comparison]:
        few = compare_graphs(
            manifest, trained, reference, batches=(1,), times=(TIMES[0], TIMES[-1]), tolerance=tolerance
        )
        few = [replace(check, name=f"{check.name}, {reference.name}") for check in few]
        return [*few, _reference_sampling(manifest, trained, reference, images)]

    def masks() -> list[Comparison]:
        trial.dice = mean_dice(draw(manifest, exported, images), expected)
        return [Comparison("1 - Dice of the masks", 1.0 - trial.dice, 1.0 - LEAST_DICE[trial.precision])]

    kinds: tuple[Callable[[], list[Comparison]], ...] = (graphs, times, evaluator, masks)
    for kind in kinds:
        try:
            trial.checks += kind()
        except BackendError as error:  # NaN or infinite outputs
            trial.failure = error.problem
        if not trial.passed:
            return


def _reference_sampling(manifest: Manifest, trained: Backend, reference: Backend, images: Images) -> Comparison:
    few = [
        Segmenter(manifest, backend)(images.pixels[0], samples=REFERENCE_SAMPLES) for backend in (trained, reference)
    ]
    error = float(np.abs(few[0].mean_probability - few[1].mean_probability).max())
    return Comparison(
        f"mean probability of {REFERENCE_SAMPLES} samples, {reference.name}", error, REFERENCE_PROBABILITY
    )


def mean_dice(found: list[Segmentation], expected: list[Segmentation]) -> float:
    """Return the mean Dice of corresponding masks. Two empty masks count as 1."""
    scores = [
        dice(a, b)
        for one, other in zip(found, expected, strict=True)
        for a, b in zip(_single_masks(one), _single_masks(other), strict=True)
    ]
    return float(np.mean(scores))


def _single_masks(result: Segmentation) -> npt.NDArray[np.bool_]:
    """Masks (N, H, W) or (N, classes, H, W) => (masks, H, W)."""
    return result.masks.reshape(-1, *result.masks.shape[-2:])
