"""The training loop, which all stages share."""

from __future__ import annotations

import json
import os
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from lightning_fabric import Fabric
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from medseg_runtime.errors import CheckpointError, ParameterError
from medseg_trainer.config.run import TrainConfig
from medseg_trainer.data.layouts import layout_of
from medseg_trainer.data.working_set import BatchSource, WorkingSet
from medseg_trainer.models.autoencoder import class_weights
from medseg_trainer.training.data_record import DataSplit, record_data
from medseg_trainer.training.ema import Ema
from medseg_trainer.training.interrupt import interrupt_between_steps
from medseg_trainer.training.plan import Context, PlannedStage, plan
from medseg_trainer.training.run_files import AGAIN
from medseg_trainer.training.run_folder import RunFolder
from medseg_trainer.training.stages import Stage
from medseg_trainer.training.state import StageProgress
from medseg_trainer.training.step import take_step
from medseg_trainer.training.validation import Validator

LOG_EVERY = 10
SAVE_EVERY_SECONDS = 60.0


def fit(config: TrainConfig, data: Path, out: Path, *, command: str = "") -> None:
    """Train all stages, from the start or from where an earlier call in the same folder was interrupted.

    out: the run folder.
    command: the command line, without paths, to record in data.json.

    Raises:
        DataError: the data are missing, or images and masks do not pair.
        CheckpointError: the folder belongs to a run with another configuration, or another process trains in it.
        OutputError: the folder cannot be written.
        ParameterError: a batch cannot be shared equally by the processes.
    """
    fabric = start_fabric(config)
    console = Console(stderr=True, quiet=not fabric.is_global_zero)
    run = RunFolder(out)
    run.check_same(config)
    num_classes = len(config.classes)
    train = WorkingSet.read(
        data,
        "train",
        config.input,
        config.raters,
        num_classes,
        classes=config.classes,
        quiet=not fabric.is_global_zero,
    )
    # before the folder is made, so that faults of the data are found before anything is written
    frequency = train.class_frequency(config.input, config.classes)
    validator = Validator.read(config, data, run.path / "samples") if fabric.is_global_zero else None
    with ExitStack() as stack:
        if validator is not None:
            _print_warnings(console, {"train": train.warnings, "val": validator.warnings})
            run.start(config)
            stack.enter_context(run.locked())
            splits = {
                "train": DataSplit(len(train), train.num_groups, train.names_sha256),
                "val": DataSplit(validator.available, validator.num_groups, validator.names_sha256),
            }
            record_data(run.path, layout_of(data, config.classes[0]), splits, command)
        fabric.barrier()
        _train(fabric, run, config, train, frequency, validator, console)


def _print_warnings(console: Console, warnings: dict[str, tuple[str, ...]]) -> None:
    """Print how the images and masks of each split were read, where a reader should know it."""
    lines = [f"warning: {split}: {line}" for split, found in warnings.items() for line in found]
    for line in [*lines, *["`medseg-train check DATA` draws the masks on their images"][: len(lines)]]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _train(
    fabric: Fabric,
    run: RunFolder,
    config: TrainConfig,
    train: WorkingSet,
    frequency: Tensor,
    validator: Validator | None,
    console: Console,
) -> None:
    """Train the stages of the plan; frequency: (classes + 1,) share of each class, background first."""
    weights = class_weights(frequency).float()
    console.print(
        f"{len(train)} images, {fabric.strategy.precision.precision}; class share {_listed(frequency)}, weights {_listed(weights)}",
        highlight=False,
    )
    context = Context(config=config, run=run, device=fabric.device, class_weight=weights, validator=validator)
    for planned in plan(config):
        source = _batch_source(fabric, config, train, planned)
        torch.manual_seed(config.seed)  # the initial weights do not depend on what was trained before, now or earlier
        run_stage(fabric, run, planned.build(context), source, console)
        if planned.finish is not None and fabric.is_global_zero:
            planned.finish(context, replace(source, rank=0, world_size=1)[0])
        fabric.barrier()


def _batch_source(fabric: Fabric, config: TrainConfig, train: WorkingSet, planned: PlannedStage) -> BatchSource:
    """Return this process's part of a stage's batches."""
    batch_size, processes = planned.optimisation.batch_size, fabric.world_size
    if batch_size % processes:
        raise ParameterError(
            f"a batch of {batch_size} cannot be shared equally by {processes} processes",
            "Start a number of processes that divides it.",
        )
    seed = config.seed * 1000 + planned.batch_seed
    return BatchSource(train, config.input, config.augment, batch_size, seed, fabric.global_rank, processes)


def start_fabric(config: TrainConfig) -> Fabric:
    """Start Lightning Fabric on this process, or on those that torchrun or `fabric run` started."""
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    nodes = int(os.environ.get("WORLD_SIZE", "1")) // local
    many = local * nodes > 1
    precision = native_precision() if config.precision == "auto" else config.precision
    fabric = Fabric(
        devices=local if many else 1, num_nodes=nodes, strategy="ddp" if many else "auto", precision=precision
    )
    fabric.launch()
    return fabric


def native_precision() -> Literal["32-true", "bf16-mixed", "16-mixed"]:
    """Return the fastest precision of the device. Emulated bfloat16, which torch offers too, is slower than float32."""
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    return "bf16-mixed" if torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported() else "32-true"  # noqa: SLF001


def run_stage(fabric: Fabric, run: RunFolder, stage: Stage, source: BatchSource, console: Console) -> None:
    """Train one stage to its end, from its saved state if there is one, and write its weights to the run folder.

    Weights are written before the state: a process killed in between repeats the step and writes the same weights.

    Raises:
        CheckpointError: a file of the run is damaged.
    """
    settings = stage.optimisation
    parameters = [p for p in stage.module.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=0.0, betas=(0.9, 0.99), weight_decay=settings.weight_decay)
    stage.module.to(fabric.device)
    ema = Ema(stage.module, settings.ema_decay)
    progress = run.load_state(stage.name, stage.module, ema, optimiser) or StageProgress()
    if progress.step > settings.steps:
        raise CheckpointError(f"the {stage.name} is at step {progress.step:,} of {settings.steps:,}", AGAIN)
    record = _Record(fabric, run, stage, ema, progress, console)
    if progress.step == settings.steps:
        if not run.has_weights(stage.name):
            record.write_last_again()
        return
    if fabric.is_global_zero:
        run.drop_log_after(stage.name, progress.step)
    wrapped, wrapped_optimiser = fabric.setup(stage.module, optimiser)
    saved = time.monotonic()
    with _progress_bar(console) as bar, interrupt_between_steps(console) as interrupted:
        task = bar.add_task(stage.name, total=settings.steps, completed=progress.step, status="")
        started, first = time.monotonic(), progress.step
        for batch in source.batches(range(first, settings.steps), fabric.device):
            losses = take_step(fabric, stage, wrapped, wrapped_optimiser, batch, source, progress.step)
            progress.step += 1
            ema.update(stage.module, progress.step)
            ends = progress.step == settings.steps
            if progress.step % LOG_EVERY == 0 or ends:
                loss = record.log(losses)  # waits for the device, so not at every step
                speed = (progress.step - first) * settings.batch_size / (time.monotonic() - started)
                bar.update(task, completed=progress.step, status=f"loss {loss:.4f}  {speed:.0f} images/s")
            validates = stage.validate is not None and (ends or progress.step % stage.validate_every == 0)
            if validates:
                record.validate()
            elif ends:
                record.write_weights({})
            stops = interrupted()
            if ends or stops or validates or time.monotonic() - saved > SAVE_EVERY_SECONDS:
                if fabric.is_global_zero:
                    run.save_state(stage.name, stage.module, ema, optimiser, progress)
                saved = time.monotonic()
            if stops:
                console.print(
                    f"{stage.name} interrupted at step {progress.step}; the same command resumes from there",
                    highlight=False,
                )
                raise KeyboardInterrupt
    fabric.barrier()


@dataclass(frozen=True, slots=True)
class _Record:
    """Writes what a stage leaves in the run folder: from the first process only."""

    fabric: Fabric
    run: RunFolder
    stage: Stage
    ema: Ema
    progress: StageProgress
    console: Console

    def log(self, losses: dict[str, Tensor]) -> float:
        """Log the losses, averaged over the processes; return the total one."""
        means = self.fabric.all_reduce(losses, reduce_op="mean")
        assert isinstance(means, dict)
        values = {name: float(value) for name, value in means.items()}
        if self.fabric.is_global_zero:
            self.run.log({"stage": self.stage.name, "step": self.progress.step, **values})
        return values["loss"]

    def validate(self) -> None:
        """Validate the EMA weights, and write them if their GED is the lowest so far."""
        if self.fabric.is_global_zero:
            assert self.stage.validate is not None
            step = self.progress.step
            metrics = self.stage.validate(self.ema.tensors, step)
            self.run.log({"stage": self.stage.name, "step": step, "validation": metrics})
            listed = ", ".join(f"{name} {value:.3f}" for name, value in metrics.items())
            self.console.print(f"step {step}: {listed}", highlight=False)
            if self.progress.best is None or metrics["ged"] < self.progress.best:
                self.progress.best = metrics["ged"]
                self.write_weights({"validation": json.dumps(metrics)})
        self.fabric.barrier()

    def write_last_again(self) -> None:
        """Write the last weights of a finished stage whose file was deleted. They may not be the best ones."""
        self.write_weights({"chosen": "last"})
        self.console.print(f"{self.stage.name}: its weights were missing; wrote the last ones", highlight=False)
        self.fabric.barrier()

    def write_weights(self, metadata: dict[str, str]) -> None:
        """Write the EMA weights."""
        if self.fabric.is_global_zero:
            kept = self.stage.keep(self.ema.tensors)
            self.run.save_weights(self.stage.name, kept, {"step": str(self.progress.step), **metadata})


def _progress_bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[status]}"),
        TimeRemainingColumn(),
        console=console,
    )


def _listed(values: Tensor) -> str:
    return "/".join(f"{value:.3g}" for value in values)
