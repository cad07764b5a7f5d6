"""The measured networks: a preset at a given side, with random weights, as torch modules and as a bundle."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.common.cost import Cost
from benchmarks.common.networks import graph_cost, untrained
from medseg_export.bundle_writer import BUNDLE
from medseg_export.graphs.low_precision import low_precision_graphs, to_low_precision
from medseg_export.graphs.to_onnx import graph_entry, onnx_graph
from medseg_runtime.backends.base import Float32
from medseg_runtime.files.publish import published
from medseg_runtime.model.bundle import MANIFEST_NAME, Bundle, Manifest
from medseg_runtime.model.sampler import SamplerTable, sampler_table, time_features
from medseg_runtime.model.signatures import GraphName
from medseg_trainer.config.presets import PRESETS
from medseg_trainer.config.run import TrainConfig
from medseg_trainer.models.graphs import Networks
from medseg_trainer.models.manifest import manifest_of


@dataclass(frozen=True, slots=True)
class Subject:
    """Networks at one side."""

    config: TrainConfig
    side: int
    networks: Networks
    costs: dict[GraphName, Cost]

    @classmethod
    def of(cls, preset: str, side: int) -> Subject:
        """Build the networks."""
        base = PRESETS[preset]()
        config = replace(base, input=replace(base.input, height=side, width=side, context=0, geometry="resize"))
        costs = {name: graph_cost(config, name) for name in manifest_of(config).graphs}
        return cls(config, side, untrained(config), costs)

    @property
    def manifest(self) -> Manifest:
        """Manifest of the networks, with the shapes of the graphs."""
        return manifest_of(self.config)

    def flops(self, samples: int, steps: int) -> int:
        """Return the floating-point operations of a run, two per multiply-accumulate."""
        cost = self.costs
        return 2 * (cost["encoder"].of(1) + steps * cost["denoiser"].of(samples) + cost["decoder"].of(samples))

    def inputs(self, samples: int) -> tuple[Float32, Float32]:
        """Return an image (1, C, H, W) in [0, 1] and noise (N, Z, h, w)."""
        rng = np.random.default_rng(0)
        image = rng.random((1, self.config.input.channels, self.side, self.side), np.float32)
        return image, rng.standard_normal((samples, *self.manifest.latent)).astype(np.float32)

    def table(self, steps: int) -> tuple[SamplerTable, Float32]:
        """Return the sampler's table and the time features (S, T)."""
        table = sampler_table(self.config.path, self.config.sampling.sampler, steps)
        return table, time_features(table.t, self.manifest.time_features)

    def bundle(self, folder: Path) -> Bundle:
        """Export the networks in float32 and float16."""
        shapes = self.manifest
        full = {name: onnx_graph(name, module, shapes) for name, module in self.networks.graphs().items()}
        half = low_precision_graphs(to_low_precision(self.networks, "float16"), shapes, "float16")
        entries = {name: graph_entry(name, content, shapes.graphs[name]) for name, content in full.items()}
        low = {name: graph_entry(name, content, shapes.graphs[name], "float16") for name, content in half.items()}
        with published(folder, BUNDLE, force=True) as unfinished:
            for listed, contents in ((entries, full), (low, half)):
                for name, content in contents.items():
                    (unfinished / listed[name].file).write_bytes(content)
            manifest = replace(shapes, graphs=entries, half=low)
            (unfinished / MANIFEST_NAME).write_text(manifest.to_json(), encoding="utf-8")
        return Bundle.load(folder)
