"""Read and write single files of a run: safetensors and JSON. Failures become errors that name the file and the remedy."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from medseg_runtime.errors import CheckpointError, OutputError
from medseg_runtime.files.failures import remedy_for
from medseg_runtime.files.replace import replacing


def save_safetensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write tensors and metadata; a process that is killed leaves the old file whole.

    Raises:
        OutputError: the file cannot be written.
    """
    with writing(path), replacing(path) as temporary:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, temporary, metadata)


def load_safetensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a file, on the CPU.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    with _reading(path):
        tensors: dict[str, Tensor] = load_file(path)
    return tensors


def read_metadata(path: Path) -> dict[str, str]:
    """Read the metadata of a safetensors file.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    with _reading(path), safe_open(path, "pt") as opened:
        found: dict[str, str] = opened.metadata()
    return found


def write_atomically(path: Path, text: str) -> None:
    """Write a text file; a process that is killed leaves the old file whole.

    Raises:
        OutputError: the file cannot be written.
    """
    with writing(path), replacing(path) as temporary:
        temporary.write_text(text)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; return an empty one if the file is missing.

    Raises:
        CheckpointError: the file is damaged.
    """
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path.name} is damaged: {error}", "Make it again, or delete it.") from error
    return content


def append_line(path: Path, line: str) -> None:
    """Append a line to a text file, but not through a link: it may lead out of the run folder.

    Raises:
        OutputError: the file cannot be written.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    with writing(path), os.fdopen(os.open(path, flags, 0o666), "a") as file:
        file.write(line + "\n")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raise OutputError for what fails in the block while it writes a file of a run."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        otherwise = "Free some space, then run the same command to continue."
        reason, remedy = (
            (error.strerror, remedy_for(error, otherwise)) if isinstance(error, OSError) else (error, otherwise)
        )
        raise OutputError(f"{_shown(path)} cannot be written: {reason}", remedy) from error


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{path.stem} has not been trained yet", "Run the same `medseg-train fit` to its end."
        ) from error
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{_shown(path)} is damaged: {error}", "Copy the run again, or delete this file and train on."
        ) from error


def _shown(path: Path) -> str:
    """Return a file's path in the run folder."""
    return f"state/{path.name}" if path.parent.name == "state" else path.name
