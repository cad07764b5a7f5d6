"""Does the bundle do what the trained network does? Torch against ONNX Runtime, graph by graph and for a whole sampling."""

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
"""Of the largest difference of a graph's outputs, relative to the largest output."""
PROBABILITY_TOLERANCE = 1e-4
"""Of the largest difference of a mean probability map."""


@dataclass(frozen=True, slots=True)
class Check:
    """One comparison."""

    name: str
    error: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """False for NaN too."""
        return self.error <= self.tolerance


def check_parity(manifest: Manifest, trained: HostLoop, exported: HostLoop, draws: int = 1) -> list[Check]:
    """Compare every graph and the whole sampling.

    draws: of each comparison the best of so many counts. One, but for a model with a codebook: a latent in the middle between
        two codes may go to one of them in torch and to the other in ONNX Runtime. A wrong graph fails every draw.

    Raises:
        ExportError: a comparison is beyond its tolerance.
    """
    repeated = [
        [*check_graphs(manifest, trained, exported, seed), *check_sampling(manifest, trained, exported, seed)]
        for seed in range(draws)
    ]
    checks = [_best(list(same)) for same in zip(*repeated, strict=True)]
    missed = [check for check in checks if not check.passed]
    if missed:
        raise ExportError(
            "the exported graphs do not agree with torch: "
            + ", ".join(
                f"{check.name} differs by {check.error:.1e} (at most {check.tolerance:.0e})" for check in missed
            ),
            "Export with the versions that constraints.txt names, and report the model if that does not help.",
        )
    return checks


def _best(same: list[Check]) -> Check:
    """Return the draw of one comparison that differs least; one that is NaN spoils them all."""
    return next((check for check in same if np.isnan(check.error)), min(same, key=lambda check: check.error))


def check_graphs(
    manifest: Manifest,
    trained: HostLoop,
    exported: HostLoop,
    seed: int = 0,
    *,
    batches: tuple[int, ...] = BATCHES,
    times: tuple[float, ...] = TIMES,
    tolerance: float = GRAPH_TOLERANCE,
) -> list[Check]:
    """Feed both the same random numbers, at several batch sizes and network times."""
    generator = np.random.default_rng(seed)
    rows = sampler_table(manifest.path, manifest.sampling.sampler, manifest.sampling.steps).rows
    checks = []
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
            checks.append(Check(f"{name} at batch {batch}", _largest(errors), tolerance))
    return checks


def time_errors(manifest: Manifest, trained: HostLoop, exported: HostLoop) -> dict[float, float]:
    """Network time -> relative rms difference of the network's output, for the same latents at every time.

    Rounding does not know the time, so these are about equal; a time embedding in low precision errs more, the later the time.
    """
    generator = np.random.default_rng(0)
    feeds = {key: _random(generator, shape, 4) for key, shape in manifest.graphs["denoiser"].inputs.items()}
    feeds["row"] = np.array([0, 1, 0, 1, 0], np.float32)  # denoised is what the network returns
    errors = {}
    for time in TIMES:
        feeds["time_features"] = time_features(np.array([time]), manifest.time_features)
        (_, expected), (_, found) = trained.run("denoiser", feeds), exported.run("denoiser", feeds)
        errors[time] = float(np.sqrt(np.mean(np.square(found - expected)) / np.mean(np.square(expected))))
    return errors


def check_sampling(manifest: Manifest, trained: Backend, exported: Backend, seed: int = 0) -> list[Check]:
    """Segment a synthetic image with both, from the same noise."""
    samples = 16
    image = synthetic_image(manifest)
    results = [Segmenter(manifest, backend)(image, samples=samples, seed=seed) for backend in (trained, exported)]
    error = float(np.abs(results[0].mean_probability - results[1].mean_probability).max())
    return [Check(f"mean probability of {samples} samples", error, PROBABILITY_TOLERANCE)]


def weight_rounding(manifest: Manifest, full: Backend, rounded: Backend) -> float:
    """Return the largest change of a mean probability that comes of storing weights in float16; reported, not judged."""
    return check_sampling(manifest, full, rounded)[0].error


def synthetic_image(manifest: Manifest) -> npt.NDArray[np.uint8]:
    """Return a soft bright disc on a dark, textured ground, 8-bit, in the size of the network's input."""
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
    return float(np.max(errors))  # NaN if any is; the built-in max drops it


def describe(checks: list[Check], rounding: float) -> dict[str, object]:
    """Return what bundle.json keeps of the comparison."""
    return {
        "reference": f"torch {torch.__version__}",
        "errors": {check.name: float(f"{check.error:.2e}") for check in checks},
        "tolerances": {"graphs, relative": GRAPH_TOLERANCE, "mean probability, absolute": PROBABILITY_TOLERANCE},
        "mean probability changed by float16 weights": float(f"{rounding:.2e}"),
    }
