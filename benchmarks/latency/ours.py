"""One engine of ours in the contest, and the three things that are timed of it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from benchmarks.latency.engines import Engine
from benchmarks.latency.subject import Subject
from benchmarks.latency.timing import Run
from medseg_runtime.backends.base import Float32
from medseg_runtime.inference.segmenter import Segmenter
from medseg_runtime.model.sampler import sampler_table, time_features

END_TO_END, BATCHED, ONE_BY_ONE = "end to end", "networks, one call", "networks, one by one"


@dataclass(frozen=True, slots=True)
class Ours:
    """An engine with a bundle loaded."""

    engine: Engine
    segmenter: Segmenter
    subject: Subject
    samples: int
    stages: dict[str, list[float]] = field(default_factory=dict)

    def end_to_end(self) -> None:
        """Segment an image, from its pixels to masks and maps in its own grid."""
        result = self.segmenter(self.subject.picture(), samples=self.samples, seed=0)
        for stage, milliseconds in result.timings_ms.items():
            self.stages.setdefault(stage, []).append(milliseconds)

    def networks(self, batch: int) -> Run:
        """Return a call of the networks alone: the condition once, then the samples in batches."""
        manifest, backend = self.segmenter.manifest, self.segmenter.backend
        rule, generator = manifest.input, np.random.default_rng(0)
        image = generator.random((1, rule.channels, rule.height, rule.width), np.float32)
        table = sampler_table(manifest.path, manifest.sampling.sampler, manifest.sampling.steps)
        features = time_features(table.t, manifest.time_features)
        noise = generator.standard_normal((self.samples, *manifest.latent), np.float32)

        def fresh() -> Float32:
            return noise[:batch]

        def run() -> None:
            condition = backend.encode(image)
            for some in np.split(noise, self.samples // batch):
                backend.decode(backend.denoise(condition, some, table, features, fresh))

        return run

    def runs(self) -> dict[str, Run]:
        """Return the three, by their keys."""
        return {
            f"{self.engine}, {END_TO_END}": self.end_to_end,
            f"{self.engine}, {BATCHED}": self.networks(self.samples),
            f"{self.engine}, {ONE_BY_ONE}": self.networks(1),
        }
