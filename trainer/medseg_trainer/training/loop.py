"""The training loop: one for all stages."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from lightning_fabric import Fabric
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from medseg_runtime.errors import ParameterError
from medseg_trainer.config.run import Optimisation, TrainConfig
from medseg_trainer.data.layouts import layout_of
from medseg_trainer.data.working_set import Batch, BatchSource, WorkingSet
from medseg_trainer.models.autoencoder import ImageAutoencoder, MaskAutoencoder, class_weights
from medseg_trainer.models.condition import AutoencoderCondition
from medseg_trainer.training.run_folder import DataSplit, Ema, RunFolder, build_condition
from medseg_trainer.training.stages import (
    Draws,
    Stage,
    denoiser_stage,
    energy_stage,
    image_stage,
    mask_stage,
    set_latent_scale,
)
from medseg_trainer.training.validation import Validator

LOG_EVERY = 10
SAVE_EVERY_SECONDS = 60.0


def fit(config: TrainConfig, data: Path, out: Path, *, command: str = "") -> None:
    """Train all stages, from the start or from where the folder's run was interrupted.

    command: what a person types to train this, for the record; without paths.

    Raises:
        DataError: the data are missing, or do not pair.
        CheckpointError: the folder belongs to a run with another configuration.
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
        structure=config.classes[0],
        quiet=not fabric.is_global_zero,
    )
    # val is read now, and the folder made after that: what is wrong with the data is said before anything is written or trained
    frequency = train.class_frequency(config.input, config.classes)
    validator = Validator.read(config, data, run.path / "samples") if fabric.is_global_zero else None
    with ExitStack() as stack:
        if validator is not None:
            run.start(config)
            stack.enter_context(run.alone())
            splits = {
                "train": DataSplit(len(train), train.num_groups, train.names_sha256),
                "val": DataSplit(validator.available, validator.num_groups, validator.names_sha256),
            }
            run.describe_data(layout_of(data, config.classes[0]), splits, command)
        fabric.barrier()
        _train(fabric, run, config, train, frequency, validator, console)


def _train(
    fabric: Fabric,
    run: RunFolder,
    config: TrainConfig,
    train: WorkingSet,
    frequency: Tensor,
    validator: Validator | None,
    console: Console,
) -> None:
    """Train one stage after the other; frequency: of the classes, background first."""
    weights = class_weights(frequency).float()
    console.print(
        f"{len(train)} images, {fabric.strategy.precision.precision}; class share {_listed(frequency)}, weights {_listed(weights)}",
        highlight=False,
    )

    def source(optimisation: Optimisation, seed: int) -> BatchSource:
        part = (fabric.global_rank, fabric.world_size)
        if optimisation.batch_size % fabric.world_size:
            raise ParameterError(
                f"a batch of {optimisation.batch_size} cannot be shared equally by {fabric.world_size} processes",
                "Start a number of processes that divides it.",
            )
        return BatchSource(
            train, config.input, config.augment, optimisation.batch_size, config.seed * 1000 + seed, *part
        )

    torch.manual_seed(config.seed)
    mask_autoencoder = MaskAutoencoder(config.mask_autoencoder, config.num_logits)
    mask_autoencoder.class_weight.copy_(weights)
    run_stage(
        fabric, run, mask_stage(config, mask_autoencoder), source(config.mask_autoencoder.optimisation, 1), console
    )
    run.load_weights("mask_autoencoder", mask_autoencoder)
    if fabric.is_global_zero and config.mask_autoencoder.regulariser != "sphere":
        whole = dataclasses.replace(source(config.mask_autoencoder.optimisation, 1), rank=0, world_size=1)
        set_latent_scale(mask_autoencoder, whole[0])
        run.save_weights("mask_autoencoder", mask_autoencoder.state_dict(), {})
    fabric.barrier()
    run.load_weights("mask_autoencoder", mask_autoencoder)

    torch.manual_seed(config.seed)  # whether the stage before was trained now or earlier
    condition = build_condition(config)
    if config.condition.autoencoder is not None:
        image_autoencoder = ImageAutoencoder(config.condition.autoencoder, config.input.channels)
        optimisation = config.condition.autoencoder.optimisation
        run_stage(
            fabric,
            run,
            image_stage(config.condition.autoencoder, config, image_autoencoder),
            source(optimisation, 2),
            console,
        )
        run.load_weights("image_autoencoder", image_autoencoder)
        condition = AutoencoderCondition(image_autoencoder)

    torch.manual_seed(config.seed)
    stage = denoiser_stage(config, mask_autoencoder.to(fabric.device), condition, validator)
    run_stage(fabric, run, stage, source(config.denoiser.optimisation, 3), console)
    if config.energy is not None:
        fabric.barrier()
        torch.manual_seed(config.seed)
        stage = energy_stage(config, config.energy, run.networks("denoiser").to(fabric.device), validator)
        run_stage(fabric, run, stage, source(config.energy.optimisation, 4), console)


def start_fabric(config: TrainConfig) -> Fabric:
    """Start Lightning Fabric on one process, or on those that torchrun or `fabric run` started."""
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
    """Return bf16 where the device multiplies in it, otherwise float32: emulated, it is slower."""
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    return "bf16-mixed" if torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported() else "32-true"  # noqa: SLF001


def run_stage(fabric: Fabric, run: RunFolder, stage: Stage, source: BatchSource, console: Console) -> None:
    """Train one stage to its end, going on from its saved state; leaves its weights in the run folder.

    What is kept is written before the state that says so: a process killed between the two does the step again, and writes the same.
    """
    settings = stage.optimisation
    parameters = [p for p in stage.module.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=0.0, betas=(0.9, 0.99), weight_decay=settings.weight_decay)
    stage.module.to(fabric.device)
    ema = Ema(stage.module, settings.ema_decay)
    progress: dict[str, Any] = run.load_state(stage.name, stage.module, ema, optimiser) or {"step": 0, "best": None}
    if progress["step"] == settings.steps:
        if not run.has_weights(stage.name):
            _keep_last(fabric, run, stage, ema, progress, console)
        return
    if fabric.is_global_zero:
        run.forget_after(stage.name, progress["step"])
    wrapped, wrapped_optimiser = fabric.setup(stage.module, optimiser)
    saved = time.monotonic()

    def save() -> None:
        if fabric.is_global_zero:
            run.save_state(stage.name, stage.module, ema, optimiser, progress)

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar, _interrupt_between_steps(console) as interrupted:
        task = bar.add_task(stage.name, total=settings.steps, completed=progress["step"], figures="")
        started, first = time.monotonic(), progress["step"]
        for batch in source.batches(range(first, settings.steps), fabric.device):
            losses = _step(fabric, stage, wrapped, wrapped_optimiser, batch, source, progress["step"])
            progress["step"] += 1
            step = progress["step"]
            ema.update(stage.module, step)
            ends = step == settings.steps
            if step % LOG_EVERY == 0 or ends:
                figures = _mean(fabric, losses)  # waits for the device: once in a while
                speed = (step - first) * settings.batch_size / (time.monotonic() - started)
                bar.update(task, completed=step, figures=f"loss {figures['loss']:.4f}  {speed:.0f} images/s")
                if fabric.is_global_zero:
                    run.log({"stage": stage.name, "step": step, **figures})
            validates = stage.validate is not None and (ends or step % stage.validate_every == 0)
            if validates:
                _validate(fabric, run, stage, ema, progress, console)
            elif ends and fabric.is_global_zero:
                run.save_weights(stage.name, stage.keep(ema.tensors), {"step": str(step)})
            stops = interrupted()
            if ends or stops or validates or time.monotonic() - saved > SAVE_EVERY_SECONDS:
                save()
                saved = time.monotonic()
            if stops:
                console.print(
                    f"{stage.name} interrupted at step {step}; the same command goes on from there", highlight=False
                )
                raise KeyboardInterrupt
    fabric.barrier()


@contextmanager
def _interrupt_between_steps(console: Console) -> Iterator[Callable[[], bool]]:
    """Let Ctrl-C wait for the end of the step: what is saved in its midst would be the state of no step.

    Yields whether it was pressed; pressed again, it stops at once, and nothing is saved.
    """
    pressed = False

    def wait(_signal: int, _frame: object) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True
        console.print("stopping after this step; Ctrl-C again stops at once, without saving", highlight=False)

    if threading.current_thread() is not threading.main_thread():  # no signal arrives elsewhere
        yield lambda: False
        return
    before = signal.signal(signal.SIGINT, wait)
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, before)


def _step(
    fabric: Fabric,
    stage: Stage,
    module: Any,
    optimiser: Any,
    batch: Batch,
    source: BatchSource,
    step: int,
) -> dict[str, Tensor]:
    """Do one optimiser step; returns this process's loss and its parts."""
    settings = stage.optimisation
    for group in optimiser.param_groups:
        group["lr"] = learning_rate(settings, step)
    seed = int(np.random.SeedSequence((source.seed, 2, step)).generate_state(1, np.uint64)[0] >> 1)
    # dropout takes no generator; each process leaves out its own features
    torch.manual_seed(seed + fabric.global_rank)
    generator = torch.Generator(fabric.device).manual_seed(seed)
    draws = Draws(generator, settings.batch_size, source.rank, source.world_size)
    loss, parts = stage.losses(module, batch, draws)
    fabric.backward(loss)
    # float16 scales the loss until gradients overflow now and then, and leaves those steps out
    scaled = fabric.strategy.precision.precision == "16-mixed"
    fabric.clip_gradients(module, optimiser, max_norm=settings.gradient_clip, error_if_nonfinite=not scaled)
    optimiser.step()
    optimiser.zero_grad()
    return {name: part.detach() for name, part in {"loss": loss, **parts}.items()}


def _mean(fabric: Fabric, losses: dict[str, Tensor]) -> dict[str, float]:
    """Average over the processes."""
    mean = fabric.all_reduce(losses, reduce_op="mean")
    assert isinstance(mean, dict)
    return {name: float(value) for name, value in mean.items()}


def learning_rate(settings: Optimisation, step: int) -> float:
    """Return the rate of a step: linear warm-up, then half a cosine down to zero."""
    warm = min(1.0, (step + 1) / settings.warmup_steps) if settings.warmup_steps else 1.0
    return settings.learning_rate * warm * 0.5 * (1.0 + float(np.cos(np.pi * step / settings.steps)))


def _validate(
    fabric: Fabric, run: RunFolder, stage: Stage, ema: Ema, progress: dict[str, Any], console: Console
) -> None:
    """Validate the EMA weights, and keep them if no earlier ones had a lower GED."""
    if fabric.is_global_zero:
        assert stage.validate is not None
        step = progress["step"]
        figures = stage.validate(ema.tensors, step)
        run.log({"stage": stage.name, "step": step, "validation": figures})
        console.print(
            f"step {step}: " + ", ".join(f"{name} {value:.3f}" for name, value in figures.items()), highlight=False
        )
        if progress["best"] is None or figures["ged"] < progress["best"]:
            progress["best"] = figures["ged"]
            run.save_weights(
                stage.name, stage.keep(ema.tensors), {"step": str(step), "validation": json.dumps(figures)}
            )
    fabric.barrier()


def _keep_last(
    fabric: Fabric, run: RunFolder, stage: Stage, ema: Ema, progress: dict[str, Any], console: Console
) -> None:
    """Write the weights of a finished stage again, whose file somebody has deleted: the last ones, which may not have been the best."""
    if fabric.is_global_zero:
        run.save_weights(stage.name, stage.keep(ema.tensors), {"step": str(progress["step"]), "chosen": "last"})
        console.print(f"{stage.name}: the last weights, made again", highlight=False)
    fabric.barrier()


def _listed(values: Tensor) -> str:
    return "/".join(f"{value:.3g}" for value in values)
