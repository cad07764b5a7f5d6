"""Grid cells of each network alone: encoder, one denoiser step, decoder."""

from __future__ import annotations

import numpy as np

from benchmarks.latency.conftest import Measure
from benchmarks.latency.grid import Setup
from medseg_runtime.backends.base import Float32
from medseg_runtime.inference.segmenter import Segmenter
from medseg_runtime.model.sampler import sampler_table, time_features


def test_encode(measure: Measure, setup: Setup, segmenter: Segmenter) -> None:
    """Encode one image."""
    image, cost = _image(segmenter), setup.subject.costs["encoder"]
    measure("encode", lambda: segmenter.backend.encode(image), samples=1, steps=0, multiplications=cost.of(1))


def test_step(measure: Measure, setup: Setup, segmenter: Segmenter, samples: int) -> None:
    """Run one denoiser step on N samples."""
    manifest, backend = segmenter.manifest, segmenter.backend
    table = sampler_table(manifest.path, manifest.sampling.sampler, 1)
    features = time_features(table.t, manifest.time_features)
    condition, noise = backend.encode(_image(segmenter)), _noise(segmenter, samples)
    count = setup.subject.costs["denoiser"].of(samples)
    measure(
        "step",
        lambda: backend.denoise(condition, noise, table, features, lambda: noise),
        samples=samples,
        steps=1,
        multiplications=count,
    )


def test_decode(measure: Measure, setup: Setup, segmenter: Segmenter, samples: int) -> None:
    """Decode N latents."""
    manifest, backend = segmenter.manifest, segmenter.backend
    table = sampler_table(manifest.path, manifest.sampling.sampler, 1)
    features = time_features(table.t, manifest.time_features)
    noise = _noise(segmenter, samples)
    latents = backend.denoise(backend.encode(_image(segmenter)), noise, table, features, lambda: noise)
    count = setup.subject.costs["decoder"].of(samples)
    measure("decode", lambda: backend.decode(latents), samples=samples, steps=0, multiplications=count)


def _image(segmenter: Segmenter) -> Float32:
    rule = segmenter.manifest.input
    return np.random.default_rng(0).random((1, rule.channels, rule.height, rule.width), np.float32)


def _noise(segmenter: Segmenter, samples: int) -> Float32:
    return np.random.default_rng(0).standard_normal((samples, *segmenter.manifest.latent), np.float32)
