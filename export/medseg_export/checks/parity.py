"""Compare exported graphs with the trained network: torch against ONNX Runtime, each graph and a complete sampling."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from medseg_runtime.backends.base import Backend, Float32
from medseg_runtime.backends.host_loop import HostLoop
from medseg_runtime.errors import ExportError
from medseg_runtime.inference.segmenter import Segmenter
from medseg_runtime.model.bundle import Manifest
from medseg_runtime.model.sampler import sampler_table, time_features
from medseg_runtime.model.signatures import GraphName, Shape

BATCHES = (1, 4, 16)
TIMES = (1.0, 50.0, 250.0, 500.0, 750.0, 999.0)
GRAPH_TOLERANCE = 1e-4
"""Largest difference of a graph's outputs, relative to the largest output."""
PROBABILITY_TOLERANCE = 1e-4
"""Largest absolute difference of a mean probability map."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One measured error and its tolerance."""

    name: str
    error: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether the error is within the tolerance; False for NaN."""
        return self.error <= self.tolerance


def check_parity(manifest: Manifest, trained: HostLoop, exported: HostLoop, attempts: int = 1) -> list[Comparison]:
    """Compare every graph and a complete sampling.

    attempts: number of random inputs; the best of them counts for each comparison. 1, except for models with a codebook: a latent
        halfway between two codes may round to one in torch and to the other in ONNX Runtime. A wrong graph fails every attempt.

    Raises:
        ExportError: an error exceeds its tolerance.
    """
    repeated = [
        [*compare_graphs(manifest, trained, exported, seed), *compare_sampling(manifest, trained, exported, seed)]
        for seed in range(attempts)
    ]
    comparisons = [_best(list(same)) for same in zip(*repeated, strict=True)]
    missed = [comparison for comparison in comparisons if not comparison.passed]
    if missed:
        raise ExportError(
            "the exported graphs do not agree with torch: "
            + ", ".join(
                f"{comparison.name} differs by {comparison.error:.1e} (at most {comparison.tolerance:.0e})"
                for comparison in missed
            ),
            "Export with the versions that constraints.txt names. If that does not help, report the model.",
        )
    return comparisons


def _best(same: list[Comparison]) -> Comparison:
    """Return the attempt with the smallest error, or the one that is NaN."""
    nan = (comparison for comparison in same if np.isnan(comparison.error))
    return next(nan, min(same, key=lambda comparison: comparison.error))


def compare_graphs(
    manifest: Manifest,
    trained: HostLoop,
    exported: HostLoop,
    seed: int = 0,
    *,
    batches: tuple[int, ...] = BATCHES,
    times: tuple[float, ...] = TIMES,
    tolerance: float = GRAPH_TOLERANCE,
) -> list[Comparison]:
    """Run both on the same random inputs, at several batch sizes and network times."""
    generator = np.random.default_rng(seed)
    rows = sampler_table(manifest.path, manifest.sampling.sampler, manifest.sampling.steps).rows
    comparisons = []
    for name, graph in manifest.graphs.items():
        for batch in batches if name != "encoder" else (1,):
            errors = []
            for index, time in enumerate(times if name == "denoiser" else times[:1]):
                feeds = {key: _random(generator, shape, batch) for key, shape in graph.inputs.items()}
                if name == "encoder":
                    feeds["image"] = generator.random(feeds["image"].shape, np.float32)
                if name == "denoiser":
                    feeds["row"] = rows[index % len(rows)].astype(np.float32)
                    feeds["time_features"] = time_features(np.array([time]), manifest.time_features)
                errors.append(_relative_error(name, feeds, trained, exported))
            comparisons.append(Comparison(f"{name} at batch {batch}", _largest(errors), tolerance))
    return comparisons


def time_errors(manifest: Manifest, trained: HostLoop, exported: HostLoop) -> dict[float, float]:
    """Return network time -> relative rms difference of the denoiser's output, for the same latents at every time.

    Rounding in the layers is about equal at all times. A time embedding in low precision errs more at later times.
    """
    generator = np.random.default_rng(0)
    feeds = {key: _random(generator, shape, 4) for key, shape in manifest.graphs["denoiser"].inputs.items()}
    feeds["row"] = np.array([0, 1, 0, 1, 0], np.float32)  # denoised = the network's output
    errors = {}
    for time in TIMES:
        feeds["time_features"] = time_features(np.array([time]), manifest.time_features)
        (_, expected), (_, found) = trained.run("denoiser", feeds), exported.run("denoiser", feeds)
        errors[time] = float(np.sqrt(np.mean(np.square(found - expected)) / np.mean(np.square(expected))))
    return errors


def compare_sampling(manifest: Manifest, trained: Backend, exported: Backend, seed: int = 0) -> list[Comparison]:
    """Segment a synthetic image with both, from the same noise; return the one comparison."""
    samples = 16
    image = synthetic_image(manifest)
    results = [Segmenter(manifest, backend)(image, samples=samples, seed=seed) for backend in (trained, exported)]
    error = float(np.abs(results[0].mean_probability - results[1].mean_probability).max())
    return [Comparison(f"mean probability of {samples} samples", error, PROBABILITY_TOLERANCE)]


def weight_rounding(manifest: Manifest, full: Backend, rounded: Backend) -> float:
    """Return the largest change of a mean probability caused by float16 weights. It is reported and has no tolerance."""
    return compare_sampling(manifest, full, rounded)[0].error


def synthetic_image(manifest: Manifest) -> npt.NDArray[np.uint8]:
    """Return a soft bright disc on a dark, textured background, uint8 (H, W) or (H, W, 3), of the network's input size."""
    rule = manifest.input
    height, width = max(rule.height, rule.context), max(rule.width, rule.context)
    row, column = np.mgrid[:height, :width]
    distance = np.hypot(row - height / 2, column - width / 2)
    texture = np.random.default_rng(0).normal(0.0, 8.0, (height, width))
    grey = np.clip(40.0 + 150.0 / (1.0 + np.exp((distance - height / 16) / 2.0)) + texture, 0.0, 255.0).astype(np.uint8)
    return grey if rule.channels == 1 else np.repeat(grey[:, :, None], 3, axis=2)


def _random(generator: np.random.Generator, shape: Shape, batch: int) -> Float32:
    return generator.standard_normal([batch if size == "N" else size for size in shape]).astype(np.float32)


def _relative_error(name: GraphName, feeds: dict[str, Float32], trained: HostLoop, exported: HostLoop) -> float:
    pairs = zip(trained.run(name, feeds), exported.run(name, feeds), strict=True)
    return _largest([float(np.abs(a - b).max() / max(np.abs(a).max(), 1e-6)) for a, b in pairs])


def _largest(errors: list[float]) -> float:
    return float(np.max(errors))  # NaN if one is; the built-in max ignores NaN


def parity_record(comparisons: list[Comparison], rounding: float) -> dict[str, object]:
    """Return what bundle.json keeps of the comparisons.

    rounding: see `weight_rounding`.
    """
    return {
        "reference": f"torch {torch.__version__}",
        "errors": {comparison.name: float(f"{comparison.error:.2e}") for comparison in comparisons},
        "tolerances": {"graphs, relative": GRAPH_TOLERANCE, "mean probability, absolute": PROBABILITY_TOLERANCE},
        "mean probability changed by float16 weights": float(f"{rounding:.2e}"),
    }
