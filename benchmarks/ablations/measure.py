"""The figures of the variants on val, each on the same images and seeds, and their paired differences to the reference."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from rich.progress import track
from safetensors import safe_open
from torch import nn

from benchmarks.ablations.report import SHOWN, Report, Row
from benchmarks.ablations.train import Record
from benchmarks.ablations.variants import REFERENCE, Variant
from benchmarks.latency.machine import Machine
from medseg_runtime.errors import CheckpointError
from medseg_runtime.segmenter import Segmenter
from medseg_trainer.checkpoint import RunFolder, build_networks
from medseg_trainer.data import Cases, read_cases
from medseg_trainer.evaluate import SampleSettings
from medseg_trainer.figures import CaseFigures, Figure, measure, summarise
from medseg_trainer.models.graphs import TorchBackend
from medseg_trainer.validate import manifest_of


@dataclass(frozen=True, slots=True)
class Measured:
    """One variant at one number of steps, image by image."""

    name: str
    steps: int
    cases: list[CaseFigures]


def evaluate(
    trained: dict[str, tuple[Variant, Path]], data: Path, machine: Machine, *, images: int, samples: int, command: str
) -> Report:
    """Measure the variants on evenly spaced images of val.

    trained: name => variant and its run folder; the reference is among them.

    Raises:
        CheckpointError: the reference or weights are missing, or the variants are not those of this version or of the same start.
        DataError: the data are missing, or do not pair.
    """
    _check_comparable(trained)
    config = trained[REFERENCE][0].config
    cases = read_cases(data, "val", len(config.classes), config.classes[0]).evenly(images)
    measured = [
        one for name, (variant, run) in trained.items() for one in _measured(name, variant, run, cases, samples)
    ]
    reference = next(one for one in measured if one.name == REFERENCE)
    raters = summarise(reference.cases)
    return Report(
        date=datetime.now(UTC).date().isoformat(),
        command=command,
        machine=machine,
        model=config.name,
        images=len(cases),
        groups=cases.num_groups,
        samples=samples,
        seed=SampleSettings().seed,
        raters={name: raters[name] for name in ("rater_diversity", "empty_raters")},
        rows=tuple(_row(one, *trained[one.name], reference) for one in measured),
    )


def difference(ours: Iterable[CaseFigures], theirs: Iterable[CaseFigures]) -> dict[str, Figure]:
    """Return the means of ours less theirs, image by image, with intervals from drawing patients with replacement."""
    pairs = []
    for one, other in zip(ours, theirs, strict=True):
        assert one.name == other.name
        pairs.append(replace(one, values={name: one.values[name] - other.values[name] for name in one.values}))
    return {name: figure for name, figure in summarise(pairs).items() if name != "ece"}


def _check_comparable(trained: dict[str, tuple[Variant, Path]]) -> None:
    if REFERENCE not in trained:
        raise CheckpointError(
            f"there is nothing to compare with: {REFERENCE!r} is not trained",
            f"Run `python -m benchmarks.ablations train {REFERENCE}` first.",
        )
    for variant, run in trained.values():
        RunFolder(run).check_same(variant.config)
    starts = {name: Record.read(run).start_sha256 for name, (_, run) in trained.items()}
    others = [name for name, start in starts.items() if start != starts[REFERENCE]]
    if others:
        raise CheckpointError(
            f"{', '.join(others)} started from other weights than {REFERENCE}", "Train all with the same --start."
        )


def _measured(name: str, variant: Variant, run: Path, cases: Cases, samples: int) -> Iterator[Measured]:
    """Measure one variant at each of its numbers of steps."""
    networks = build_networks(variant.config)
    folder = RunFolder(run)
    folder.load_weights("mask_autoencoder", networks.mask_autoencoder)
    folder.load_weights(variant.stage, nn.ModuleDict({"condition": networks.condition, "denoiser": networks.denoiser}))
    backend = TorchBackend(networks)
    for steps in variant.steps:
        segmenter = Segmenter(manifest_of(variant.config, variant.sampling(steps)), backend)
        shown = track(cases, f"{name}, S = {steps}", disable=not sys.stderr.isatty(), total=len(cases))
        drawn = SampleSettings(samples=samples).segment_all(segmenter, shown)
        yield Measured(name, steps, [figures for case, result in drawn for figures in measure(case, result)])


def _row(one: Measured, variant: Variant, run: Path, reference: Measured) -> Row:
    summary = summarise(one.cases)
    against = {} if one is reference else difference(one.cases, reference.cases)
    return Row(
        variant=one.name,
        what=variant.what,
        steps=one.steps,
        noise=variant.sampling(one.steps).noise,
        training=Record.read(run),
        kept_step=_kept_step(variant, run),
        figures={name: summary[name] for name in SHOWN},
        difference={name: against[name] for name in SHOWN if name in against},
    )


def _kept_step(variant: Variant, run: Path) -> int:
    if variant.tuning is None:
        return 0
    with safe_open(run / f"{variant.stage}.safetensors", "pt") as opened:
        return int(opened.metadata()["step"])
