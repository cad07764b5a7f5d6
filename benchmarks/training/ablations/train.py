"""Train one variant, from shared weights or from scratch. The same call resumes an interrupted training."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from lightning_fabric import Fabric
from rich.console import Console

from benchmarks.training.ablations.distillation import distillation_stage
from benchmarks.training.ablations.variants import Variant
from medseg_runtime.errors import CheckpointError
from medseg_runtime.files.typed_json import typed
from medseg_runtime.machine.processor import processor
from medseg_trainer.data.working_set import BatchSource, WorkingSet
from medseg_trainer.training.loop import fit, run_stage, start_fabric
from medseg_trainer.training.run_files import write_atomically
from medseg_trainer.training.run_folder import RunFolder
from medseg_trainer.training.stages import Stage, energy_stage
from medseg_trainer.training.validation import Validator

SHARED = ("mask_autoencoder.safetensors", "denoiser.safetensors")
"""Weights that all tuned variants start from."""
RECORD_NAME = "record.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingRecord:
    """How a variant was trained; stored beside its weights."""

    command: str
    seed: int
    start_sha256: str
    """Hash of the shared weights; empty if every stage is trained."""
    processor: str
    cpu_seconds: float = 0.0
    """Processor time of steps and validations, all threads. The time of a killed process is not counted."""
    finished: bool = False

    @classmethod
    def of(cls, variant: Variant, command: str, start_sha256: str = "") -> TrainingRecord:
        """Return the record of a training that starts."""
        return cls(
            command=command,
            seed=variant.config.seed,
            start_sha256=start_sha256,
            processor=str(processor()),
        )

    @classmethod
    def read(cls, folder: Path) -> TrainingRecord:
        """Read the record of a run folder.

        Raises:
            CheckpointError: the folder holds no record.
        """
        try:
            record: TrainingRecord = typed(cls, json.loads((folder / RECORD_NAME).read_text()), RECORD_NAME)
        except OSError as error:
            raise CheckpointError(
                f"{folder.name!r} holds no trained variant",
                "Run `python -m benchmarks.training.ablations train` first.",
            ) from error
        return record

    def write(self, folder: Path) -> None:
        """Write the record into a run folder."""
        write_atomically(folder / RECORD_NAME, json.dumps(asdict(self), indent=2) + "\n")


def train(variant: Variant, start: Path | None, data: Path, out: Path, *, command: str) -> None:
    """Train a variant and write its run folder.

    start: run folder with the weights of a mask autoencoder and a flow model; its configuration is not read. None: train from scratch.
    command: for the record, without paths.

    Raises:
        DataError: the data are missing, or images and masks do not pair.
        CheckpointError: the weights are missing or do not fit, or `out` belongs to another run.
        OutputError: the folder cannot be written.
    """
    RunFolder(out).check_same(variant.config)
    if variant.whole:
        _train_whole(variant, data, out, command)
    elif start is None:
        raise CheckpointError("there are no weights to tune", "Give --start a run folder whose denoiser is trained.")
    else:
        _tune(variant, start, data, out, command)
    replace(TrainingRecord.read(out), finished=True).write(out)


def _train_whole(variant: Variant, data: Path, out: Path, command: str) -> None:
    if not (out / RECORD_NAME).exists():
        RunFolder(out).start(variant.config)
        TrainingRecord.of(variant, command).write(out)
    with _recorded_cpu_seconds(out):
        fit(variant.config, data, out, command=command)


def _tune(variant: Variant, start: Path, data: Path, out: Path, command: str) -> None:
    config, run = variant.config, RunFolder(out)
    fabric = start_fabric(config)
    working_set = WorkingSet.read(
        data, "train", config.input, config.raters, len(config.classes), classes=config.classes, quiet=False
    )
    validator = Validator.read(config, data, out / "samples")
    _adopt(start, run, variant, command)
    stage = _stage(variant, run, fabric, validator)
    if stage is not None:
        source = BatchSource(
            working_set, config.input, config.augment, stage.optimisation.batch_size, config.seed * 1000 + 4
        )
        with _recorded_cpu_seconds(out):
            run_stage(fabric, run, stage, source, Console(stderr=True))


def is_finished(folder: Path) -> bool:
    """Return whether a folder holds a variant whose training is finished."""
    return (folder / RECORD_NAME).exists() and TrainingRecord.read(folder).finished


def shared_sha256(folder: Path) -> str:
    """Return the SHA-256 of the shared weights in a run folder.

    Raises:
        CheckpointError: weights are missing.
    """
    digest = hashlib.sha256()
    for name in SHARED:
        try:
            digest.update((folder / name).read_bytes())
        except OSError as error:
            raise CheckpointError(
                f"{folder.name!r} has no {name}", "Give --start a run folder whose denoiser is trained."
            ) from error
    return digest.hexdigest()


def _adopt(start: Path, run: RunFolder, variant: Variant, command: str) -> None:
    """Create the run folder with the shared weights, or check that an existing one started from the same."""
    sha256 = shared_sha256(start)
    if (run.path / RECORD_NAME).exists():
        if TrainingRecord.read(run.path).start_sha256 != sha256:
            raise CheckpointError(
                f"{run.path.name!r} was started from other weights than {start.name!r} has", "Use another --out."
            )
        return
    run.start(variant.config)
    for name in SHARED:
        shutil.copyfile(start / name, run.path / name)
    TrainingRecord.of(variant, command, sha256).write(run.path)


def _stage(variant: Variant, run: RunFolder, fabric: Fabric, validator: Validator) -> Stage | None:
    """Return the stage to train; None for the flow model itself."""
    networks = run.networks("denoiser").to(fabric.device)
    if variant.distillation is not None:
        return distillation_stage(variant.config, variant.distillation, networks, validator)
    if variant.config.energy is not None:
        return energy_stage(variant.config, variant.config.energy, networks, validator)
    return None


@contextmanager
def _recorded_cpu_seconds(folder: Path) -> Iterator[None]:
    """Add the processor time of a `with` block to the record, however the block ends."""
    before = time.process_time()
    try:
        yield
    finally:
        record = TrainingRecord.read(folder)
        replace(record, cpu_seconds=record.cpu_seconds + time.process_time() - before).write(folder)
