"""One of our backends in the contest, and the three calls that are timed."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from benchmarks.latency.backends import BackendChoice
from benchmarks.latency.subject import Subject
from benchmarks.latency.timing import Run
from medseg_runtime.backends.base import Float32
from medseg_runtime.inference.segmenter import Segmenter
from medseg_runtime.model.sampler import sampler_table, time_features

END_TO_END, BATCHED, ONE_BY_ONE = "end to end", "networks, one call", "networks, one by one"


@dataclass(frozen=True, slots=True)
class Ours:
    """A backend with a bundle loaded."""

    choice: BackendChoice
    segmenter: Segmenter
    subject: Subject
    samples: int
    stages: dict[str, list[float]] = field(default_factory=dict)

    def end_to_end(self) -> None:
        """Segment an image, from pixels to masks and maps in its own grid, and store the time of each stage."""
        result = self.segmenter(self.subject.picture(), samples=self.samples, seed=0)
        for stage, milliseconds in result.timings_ms.items():
            self.stages.setdefault(stage, []).append(milliseconds)

    def networks(self, batch: int) -> Run:
        """Return a call of the networks alone: encode once, then denoise and decode the samples in batches."""
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
        """Return the three calls by their keys."""
        return {
            f"{self.choice}, {END_TO_END}": self.end_to_end,
            f"{self.choice}, {BATCHED}": self.networks(self.samples),
            f"{self.choice}, {ONE_BY_ONE}": self.networks(1),
        }
