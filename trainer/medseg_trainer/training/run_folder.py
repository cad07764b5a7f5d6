"""The run folder: results of a training, and the state to resume it from. Safetensors and JSON, no pickle.

config.json                   the resolved configuration
mask_autoencoder.safetensors  EMA weights of a finished stage; of the last two stages, those with the best GED on val
image_autoencoder.safetensors (if the condition is one)
denoiser.safetensors          condition.* and denoiser.*
energy.safetensors            the same, tuned to sample in few steps (if the configuration has that stage)
data.json                     what it was trained on
metrics.jsonl                 one line per logged step and per validation
samples/*.png                 one sheet of pictures per validation
state/<stage>.safetensors     weights, EMA, optimiser moments and step of a stage, to resume from
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from medseg_runtime.errors import CheckpointError, OutputError
from medseg_runtime.files.lock import lock
from medseg_runtime.files.read import read_bytes
from medseg_runtime.files.replace import PARTIAL
from medseg_runtime.files.sweep import remove_files
from medseg_runtime.files.typed_json import MAX_JSON_BYTES, typed
from medseg_trainer.config.run import Optimisation, TrainConfig
from medseg_trainer.models.build import build_networks
from medseg_trainer.models.graphs import Networks
from medseg_trainer.training.data_record import read_record
from medseg_trainer.training.ema import Ema
from medseg_trainer.training.run_files import (
    AGAIN,
    append_line,
    json_object,
    load_safetensors,
    read_lines,
    read_metadata,
    save_safetensors,
    shown,
    write_atomically,
)
from medseg_trainer.training.state import StageProgress, restore_state, state_tensors
from medseg_trainer.training.tensor_check import check_tensors

CONFIG_NAME = "config.json"
STEP = re.compile("[0-9]{1,12}")


@dataclass(frozen=True, slots=True)
class RunFolder:
    """A run on disk."""

    path: Path

    def config(self) -> TrainConfig:
        """Read the configuration.

        Raises:
            CheckpointError: the folder holds no run, or one of another version.
        """
        remedy = "Give the folder of `medseg-train fit --out`."
        if not os.path.lexists(self.path / CONFIG_NAME):
            raise CheckpointError(f"{self.path.name!r} holds no training run", remedy)
        content = read_bytes(self.path / CONFIG_NAME, CheckpointError, remedy, name=CONFIG_NAME, limit=MAX_JSON_BYTES)
        try:
            text = content.decode()
        except UnicodeDecodeError as error:
            raise CheckpointError(f"{CONFIG_NAME} is no text in UTF-8", remedy) from error
        return TrainConfig.from_json(text)

    def start(self, config: TrainConfig) -> None:
        """Make the folder and write its configuration, unless they are there.

        Raises:
            OutputError: the folder cannot be made.
        """
        try:
            (self.path / "state").mkdir(parents=True, exist_ok=True)
            (self.path / "samples").mkdir(exist_ok=True)
            if not (self.path / CONFIG_NAME).exists():
                write_atomically(self.path / CONFIG_NAME, config.to_json())
        except OutputError:
            raise
        except OSError as error:
            raise OutputError(
                f"{self.path.name!r} cannot be made a run folder: {error.strerror}", "Choose another --out."
            ) from error

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from training in this folder, until the block or this process ends. Remove what a killed one left.

        Raises:
            CheckpointError: another process trains here.
        """
        with (self.path / CONFIG_NAME).open("rb") as file:
            if not lock(file.fileno(), wait=False):
                raise CheckpointError(
                    f"another process trains in {self.path.name!r}", "Wait for it, or use another --out."
                )
            here = self.path.resolve()
            for folder in (here / "state", here / "samples"):
                remove_files(folder, PARTIAL, older_seconds=0)
            remove_files(here, PARTIAL)  # of a day ago: `medseg-train evaluate` may be writing here
            yield

    def check_same(self, config: TrainConfig) -> None:
        """Refuse a folder that was started with another configuration.

        Raises:
            CheckpointError: it was.
        """
        if (self.path / CONFIG_NAME).exists() and self.config() != config:
            raise CheckpointError(
                f"{self.path.name!r} was started with another configuration",
                "Use another --out, or the preset and options it was started with.",
            )

    def log(self, record: dict[str, Any]) -> None:
        """Append a line to metrics.jsonl."""
        append_line(self.path / "metrics.jsonl", json.dumps(record))

    def drop_log_after(self, stage: str, step: int) -> None:
        """Remove the logged lines of a stage that a resumed run will write again.

        Raises:
            CheckpointError: the log is damaged.
        """
        path = self.path / "metrics.jsonl"
        # a process killed while it wrote leaves a last line without its end
        lines = [line for line in read_lines(path) if line.endswith("\n")]
        kept = [line for number, line in enumerate(lines, 1) if not _logged_after(line, number, stage, step)]
        if path.exists():
            write_atomically(path, "".join(kept))

    def save_state(
        self, stage: str, module: nn.Module, ema: Ema, optimiser: torch.optim.Optimizer, progress: StageProgress
    ) -> None:
        """Write the state that `load_state` resumes a stage from."""
        tensors = state_tensors(module, ema, optimiser)
        save_safetensors(self._state(stage), tensors, {"progress": json.dumps(asdict(progress))})

    def load_state(
        self, stage: str, module: nn.Module, ema: Ema, optimiser: torch.optim.Optimizer
    ) -> StageProgress | None:
        """Load the saved state of a stage into its parts. Return its progress, or None if nothing was saved.

        Raises:
            CheckpointError: the file is damaged, or of other networks.
        """
        path = self._state(stage)
        if not os.path.lexists(path):
            return None
        progress = _progress(path)
        restore_state(load_safetensors(path), module, ema, optimiser, shown(path))
        return progress

    def check_finished(self) -> None:
        """Refuse a run whose denoiser or tuning is unfinished. A stage without a saved state counts as finished.

        Raises:
            CheckpointError: a stage is unfinished.
        """
        config = self.config()
        stages: dict[str, Optimisation] = {"denoiser": config.denoiser.optimisation}
        if config.energy is not None:
            stages["energy"] = config.energy.optimisation
        for stage, optimisation in stages.items():
            self.check_stage_finished(stage, optimisation.steps, "Run the same `medseg-train fit` to its end.")

    def check_stage_finished(self, stage: str, steps: int, remedy: str) -> None:
        """Refuse a stage that has taken fewer steps. A stage without a saved state counts as finished.

        Raises:
            CheckpointError: it has taken fewer.
        """
        path = self._state(stage)
        if os.path.lexists(path) and (step := _progress(path).step) < steps:
            raise CheckpointError(f"the {stage} is at step {step} of {steps}", remedy)

    def save_weights(self, stage: str, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
        """Write the resulting weights of a stage."""
        save_safetensors(self._weights(stage), tensors, metadata)

    def has_weights(self, stage: str) -> bool:
        """Tell whether the weights of a stage were written."""
        return os.path.lexists(self._weights(stage))

    def load_weights(self, stage: str, module: nn.Module) -> None:
        """Load the weights of a stage into a module.

        Raises:
            CheckpointError: the stage has not been trained, or its file does not fit.
        """
        module.load_state_dict(self._fitting(stage, module))

    def kept_step(self) -> int:
        """Return the step at which the weights of the last stage were kept.

        Raises:
            CheckpointError: the stage has not been trained, or its file is damaged.
        """
        path = self._weights(self.config().last_stage)
        step = read_metadata(path).get("step", "")
        if not STEP.fullmatch(step):
            raise CheckpointError(f"{path.name} does not say of which step it is", AGAIN)
        return int(step)

    def kept(self) -> str:
        """Describe the weights that are the result, so that a measurement can say which weights it is of.

        Raises:
            CheckpointError: they are missing or damaged.
        """
        config = self.config()
        which = f"{config.last_stage} weights of step {self.kept_step():,}"
        if read_metadata(self._weights(config.last_stage)).get("chosen") == "last":
            return f"{which}, the last ones, made again after the best were deleted"
        recorded = read_record(self.path)
        val = recorded.splits.get("val") if recorded else None
        measured = min(config.validation_images, val.images if val else config.validation_images)
        return f"{which}, the best GED on {measured} val images"

    def networks(self, stage: Literal["denoiser", "energy"] | None = None) -> Networks:
        """Load the trained networks; default: as the last stage left them.

        Raises:
            CheckpointError: a stage is missing, or its file does not fit the configuration.
        """
        config = self.config()
        stage = stage or config.last_stage
        with torch.device("meta"):  # takes no memory, however much a damaged configuration claims
            for name, module in _modules(_built(config), stage).items():
                self._fitting(name, module)
        networks = build_networks(config)
        for name, module in _modules(networks, stage).items():
            self.load_weights(name, module)
        return networks

    def _fitting(self, stage: str, module: nn.Module) -> dict[str, Tensor]:
        """Return the weights of a stage, which are those of the module."""
        tensors = load_safetensors(self._weights(stage))
        check_tensors(tensors, module.state_dict(), f"{stage}.safetensors", "Train this stage again in another folder.")
        return tensors

    def _weights(self, stage: str) -> Path:
        return self.path / f"{stage}.safetensors"

    def _state(self, stage: str) -> Path:
        return self.path / "state" / f"{stage}.safetensors"


def _built(config: TrainConfig) -> Networks:
    try:
        return build_networks(config)
    except (TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{CONFIG_NAME} describes networks that cannot be built", AGAIN) from error


def _modules(networks: Networks, stage: str) -> dict[str, nn.Module]:
    """Return the modules by the names of the stages whose files hold their weights."""
    trained = nn.ModuleDict({"condition": networks.condition, "denoiser": networks.denoiser})
    return {"mask_autoencoder": networks.mask_autoencoder, stage: trained}


def _progress(path: Path) -> StageProgress:
    try:
        found = json_object(read_metadata(path).get("progress", ""))
        progress: StageProgress = typed(StageProgress, {"step": None} | found, "progress")
    except (TypeError, ValueError, RecursionError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{shown(path)} does not say how far its stage is: {error}", AGAIN) from error
    return progress


def _logged_after(line: str, number: int, stage: str, step: int) -> bool:
    """Tell whether a line of metrics.jsonl is of a stage and of a later step."""
    try:
        record = json_object(line)
        logged: str = typed(str, record.get("stage"), "stage")
        at: int = typed(int, record.get("step"), "step")
    except (TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"line {number} of metrics.jsonl is damaged: {error}", "Remove that line, or the file: it is the log alone."
        ) from error
    return logged == stage and at > step
