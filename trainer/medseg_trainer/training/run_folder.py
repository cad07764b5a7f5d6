"""The run folder: what a training leaves, and what it needs to go on. Safetensors and JSON, no pickle.

config.json                   the resolved configuration
mask_autoencoder.safetensors  EMA weights of a finished stage; of the last two stages, those with the best GED on val
image_autoencoder.safetensors (if the condition is one)
denoiser.safetensors          condition.* and denoiser.*
energy.safetensors            the same, tuned to draw in one step (if the configuration has that stage)
data.json                     what it was trained on
metrics.jsonl                 one line per logged step and per validation
samples/*.png                 one sheet of pictures per validation
state/<stage>.safetensors     weights, EMA, optimiser moments and step of a stage, to resume from
"""

from __future__ import annotations

import dataclasses
import fcntl
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from medseg_runtime.errors import CheckpointError, OutputError
from medseg_trainer.config.run import Optimisation, TrainConfig
from medseg_trainer.data.layouts import Layout
from medseg_trainer.models.autoencoder import ImageAutoencoder, MaskAutoencoder
from medseg_trainer.models.condition import AutoencoderCondition, UNetCondition
from medseg_trainer.models.denoiser import Denoiser
from medseg_trainer.models.graphs import Networks

CONFIG_NAME = "config.json"
T = TypeVar("T")


class Ema:
    """Exponential moving average of a module's weights; of what is no float, the last value.

    Early on it averages over a tenth of the steps so far, so that it does not remember the initial weights.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.tensors = {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Take in the weights after a step."""
        decay = min(self.decay, (1 + step) / (10 + step))
        current = module.state_dict()
        floating = [name for name, average in self.tensors.items() if average.is_floating_point()]
        torch._foreach_lerp_(
            [self.tensors[name] for name in floating], [current[name] for name in floating], 1.0 - decay
        )
        for name in self.tensors.keys() - floating:
            self.tensors[name].copy_(current[name])


@dataclass(frozen=True, slots=True)
class DataSplit:
    """Which data a run has of a split."""

    images: int
    groups: int
    """Patients, or video sequences."""
    names_sha256: str
    """See `Cases`."""


@dataclass(frozen=True, slots=True)
class RunFolder:
    """A run on disk."""

    path: Path

    def config(self) -> TrainConfig:
        """Read the configuration.

        Raises:
            CheckpointError: there is no run here.
        """
        try:
            text = (self.path / CONFIG_NAME).read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise CheckpointError(
                f"{self.path.name!r} holds no training run", "Give the folder of `medseg-train fit --out`."
            ) from error
        return TrainConfig.from_json(text)

    def start(self, config: TrainConfig) -> None:
        """Make the folder, unless it is there from an earlier start.

        Raises:
            OutputError: it cannot be made.
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
    def alone(self) -> Iterator[None]:
        """Keep other processes from training in this folder, until the block or this process ends.

        Raises:
            CheckpointError: one does already.
        """
        with (self.path / CONFIG_NAME).open("rb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise CheckpointError(
                    f"another process trains in {self.path.name!r}", "Wait for it, or use another --out."
                ) from error
            except OSError:  # a file system without locks
                pass
            yield

    def check_same(self, config: TrainConfig) -> None:
        """Check that the folder is no other run's.

        Raises:
            CheckpointError: it was started with another configuration.
        """
        if (self.path / CONFIG_NAME).exists() and self.config() != config:
            raise CheckpointError(
                f"{self.path.name!r} was started with another configuration",
                "Use another --out, or the preset and options it was started with.",
            )

    def describe_data(self, layout: Layout, splits: dict[str, DataSplit], command: str) -> None:
        """Write data.json, or hold it against what is there.

        Raises:
            CheckpointError: the run began with other data: what it says of them would no longer be true.
        """
        content: dict[str, Any] = {
            "layout": layout.name,
            "command": command,
            "splits": {name: dataclasses.asdict(split) for name, split in splits.items()},
            "licence": layout.licence,
            "citation": layout.citation,
            "grouped_by": layout.grouped_by,
        }
        path = self.path / "data.json"
        told = read_json(path)
        if told and (told["layout"], told["splits"]) != (content["layout"], content["splits"]):
            before, now = _counted(told["splits"]), _counted(content["splits"])
            raise CheckpointError(
                f"{self.path.name!r} was started on {before}, and there are {'others' if now == before else now} now",
                "Give it the same data, or use another --out.",
            )
        if not told:
            write_atomically(path, json.dumps(content, indent=2) + "\n")

    def log(self, record: dict[str, Any]) -> None:
        """Append a line to metrics.jsonl."""
        with writing(self.path / "metrics.jsonl") as path, path.open("a") as lines:
            lines.write(json.dumps(record) + "\n")

    def forget_after(self, stage: str, step: int) -> None:
        """Drop the lines of a stage that a resumed run will write again."""
        path = self.path / "metrics.jsonl"
        if path.exists():
            # a process killed while it wrote leaves a last line without its end
            lines = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
            kept = [line for line in lines if (r := json.loads(line))["stage"] != stage or r["step"] <= step]
            write_atomically(path, "".join(kept))

    def save_state(
        self, stage: str, module: nn.Module, ema: Ema, optimiser: torch.optim.Optimizer, progress: dict[str, Any]
    ) -> None:
        """Write all that a stage needs to go on."""
        tensors = {f"model.{name}": tensor for name, tensor in module.state_dict().items()}
        tensors |= {f"ema.{name}": tensor for name, tensor in ema.tensors.items()}
        for index, moments in optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{index}.{name}": torch.as_tensor(value) for name, value in moments.items()}
        save_safetensors(self.path / "state" / f"{stage}.safetensors", tensors, {"progress": json.dumps(progress)})

    def load_state(
        self, stage: str, module: nn.Module, ema: Ema, optimiser: torch.optim.Optimizer
    ) -> dict[str, Any] | None:
        """Put a stage back to where it was saved; None if it was not."""
        path = self.path / "state" / f"{stage}.safetensors"
        if not path.exists():
            return None
        tensors = _load(path)
        module.load_state_dict(
            {name.removeprefix("model."): t for name, t in tensors.items() if name.startswith("model.")}
        )
        for name, average in ema.tensors.items():
            average.copy_(tensors[f"ema.{name}"])
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith("optimiser."):
                _, index, moment = name.split(".")
                moments.setdefault(int(index), {})[moment] = tensor
        optimiser.load_state_dict(optimiser.state_dict() | {"state": moments})
        return _progress(path)

    def check_finished(self) -> None:
        """Check that the last stage has come to its end; without its state, its weights count as finished.

        Raises:
            CheckpointError: it has not.
        """
        config = self.config()
        stages: dict[str, Optimisation] = {"denoiser": config.denoiser.optimisation}
        if config.energy is not None:
            stages["energy"] = config.energy.optimisation
        for stage, optimisation in stages.items():
            self.check_stage_finished(stage, optimisation.steps, "Run the same `medseg-train fit` to its end.")

    def check_stage_finished(self, stage: str, steps: int, remedy: str) -> None:
        """Check that a stage has taken so many steps; without its state, its weights count as finished.

        Raises:
            CheckpointError: it has not.
        """
        path = self.path / "state" / f"{stage}.safetensors"
        if path.exists() and (step := _progress(path)["step"]) < steps:
            raise CheckpointError(f"the {stage} is at step {step} of {steps}", remedy)

    def save_weights(self, stage: str, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
        """Write the weights of a stage that are worth keeping."""
        save_safetensors(self.path / f"{stage}.safetensors", tensors, metadata)

    def has_weights(self, stage: str) -> bool:
        """Tell whether they are there."""
        return (self.path / f"{stage}.safetensors").exists()

    def load_weights(self, stage: str, module: nn.Module) -> None:
        """Load them into a module that may be a part of the stage's.

        Raises:
            CheckpointError: the stage has not been trained, or its file does not fit.
        """
        tensors = _load(self.path / f"{stage}.safetensors")
        try:
            module.load_state_dict(tensors)
        except RuntimeError as error:
            raise CheckpointError(
                f"{stage}.safetensors does not fit config.json", "Train this stage again in another folder."
            ) from error

    def kept_step(self) -> int:
        """Return the step of the last stage whose weights had the best GED on val and were kept.

        Raises:
            CheckpointError: the stage has not been trained, or its file is damaged.
        """
        return int(_metadata(self.path / f"{self.config().last_stage}.safetensors")["step"])

    def kept(self) -> str:
        """Say which weights are the result: a figure belongs to these and no others.

        Raises:
            CheckpointError: they are missing or damaged.
        """
        config = self.config()
        which = f"{config.last_stage} weights of step {self.kept_step():,}"
        if _metadata(self.path / f"{config.last_stage}.safetensors").get("chosen") == "last":
            return f"{which}, the last ones, made again after the best were deleted"
        told = read_json(self.path / "data.json").get("splits", {}).get("val", {})
        measured = min(config.validation_images, told.get("images", config.validation_images))
        return f"{which}, the best GED on {measured} val images"

    def networks(self, stage: Literal["denoiser", "energy"] | None = None) -> Networks:
        """Load the trained networks, by default as the last stage left them.

        Raises:
            CheckpointError: a stage is missing.
        """
        config = self.config()
        networks = build_networks(config)
        self.load_weights("mask_autoencoder", networks.mask_autoencoder)
        self.load_weights(
            stage or config.last_stage,
            nn.ModuleDict({"condition": networks.condition, "denoiser": networks.denoiser}),
        )
        return networks


def build_condition(config: TrainConfig) -> nn.Module:
    """Build the condition's network, untrained."""
    channels = config.input.channels
    if config.condition.autoencoder is not None:
        return AutoencoderCondition(ImageAutoencoder(config.condition.autoencoder, channels))
    return UNetCondition(config.condition, channels, config.mask_autoencoder.factor)


def build_networks(config: TrainConfig) -> Networks:
    """Build all networks of a configuration, untrained."""
    return Networks(
        condition=build_condition(config),
        denoiser=Denoiser(config.denoiser, config.latent[0], config.condition.channels),
        mask_autoencoder=MaskAutoencoder(config.mask_autoencoder, config.num_logits),
    )


def save_safetensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write to a temporary name, then rename: a killed process leaves the old file whole."""
    with writing(path):
        temporary = path.with_name(f".{path.name}.tmp")
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, temporary, metadata)
        temporary.chmod(0o644)  # safetensors leaves 0600, which colleagues on a shared disk cannot read
        temporary.replace(path)


def write_atomically(path: Path, text: str) -> None:
    """Write a text file under a temporary name, then rename."""
    with writing(path):
        temporary = path.with_name(f".{path.name}.tmp")
        temporary.write_text(text)
        temporary.replace(path)


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Turn what is raised while a file of a run is written into OutputError; what was there before stays."""
    try:
        yield path
    except (OSError, SafetensorError) as error:
        path.with_name(f".{path.name}.tmp").unlink(missing_ok=True)
        reason = error.strerror if isinstance(error, OSError) else error
        raise OutputError(
            f"{_named(path)} cannot be written: {reason}", "Free some space; a run goes on by the same command."
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    """Read an object that a run folder may hold; empty without the file.

    Raises:
        CheckpointError: it is damaged.
    """
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path.name} is damaged: {error}", "Make it again, or delete it.") from error
    return content


def _counted(splits: dict[str, dict[str, int]]) -> str:
    return " and ".join(f"{part['images']:,} {name} images" for name, part in splits.items())


def _named(path: Path) -> str:
    """Return a file's name in the run folder."""
    return f"state/{path.name}" if path.parent.name == "state" else path.name


def _progress(path: Path) -> dict[str, Any]:
    progress: dict[str, Any] = json.loads(_metadata(path)["progress"])
    return progress


def _metadata(path: Path) -> dict[str, str]:
    def read() -> dict[str, str]:
        with safe_open(path, "pt") as opened:
            found: dict[str, str] = opened.metadata()
        return found

    return _translated(path, read)


def _load(path: Path) -> dict[str, Tensor]:
    return _translated(path, lambda: load_file(path))


def _translated(path: Path, read: Callable[[], T]) -> T:
    try:
        return read()
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{path.stem} has not been trained yet", "Run the same `medseg-train fit` to its end."
        ) from error
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{_named(path)} is damaged: {error}", "Copy the run again, or delete this file and train on."
        ) from error
