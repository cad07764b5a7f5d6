"""The measured bundles: the shipped one, and presets with random weights, exported again by every run."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from benchmarks.common.networks import graph_cost, preset_of, untrained
from benchmarks.latency.subject import Subject
from medseg_export.bundle_writer import BUNDLE
from medseg_export.graphs.to_onnx import graph_entry, onnx_graph
from medseg_runtime.files.publish import published
from medseg_runtime.model.bundle import MANIFEST_NAME, SHIPPED, Bundle
from medseg_trainer.config.presets import PRESETS
from medseg_trainer.config.run import TrainConfig
from medseg_trainer.models.manifest import manifest_of

EXPORTED = Path(__file__).parents[2] / ".benchmarks" / "bundles"


def subject(name: str) -> Subject:
    """Return a bundle by its name in a plan: `shipped`, or a preset, which is exported."""
    if name == "shipped":
        bundle = Bundle.load(SHIPPED)
        return _subject(bundle, preset_of(bundle), "trained")
    config = PRESETS[name]()
    return _subject(Bundle.load(_exported(config)), config, "random")


def _subject(bundle: Bundle, config: TrainConfig, weights: str) -> Subject:
    rule = bundle.manifest.input
    return Subject(
        name=bundle.manifest.name,
        folder=str(bundle.folder),
        sha256=bundle.sha256,
        weights=weights,
        channels=rule.channels,
        field=rule.height,
        image=max(rule.height, rule.context),
        default_steps=bundle.manifest.sampling.steps,
        costs={name: graph_cost(config, name) for name in bundle.manifest.graphs},
    )


def _exported(config: TrainConfig) -> Path:
    """Write a bundle of random weights, replacing an older one."""
    folder = EXPORTED / config.name
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # silences a warning about torchvision, which is not needed
    shapes = manifest_of(config)
    graphs = {name: onnx_graph(name, module, shapes) for name, module in untrained(config).graphs().items()}
    entries = {name: graph_entry(name, content, shapes.graphs[name]) for name, content in graphs.items()}
    EXPORTED.mkdir(parents=True, exist_ok=True)
    with published(folder, BUNDLE, force=True) as unfinished:
        for name, content in graphs.items():
            (unfinished / entries[name].file).write_bytes(content)
        (unfinished / MANIFEST_NAME).write_text(replace(shapes, graphs=entries).to_json(), encoding="utf-8")
    return folder
