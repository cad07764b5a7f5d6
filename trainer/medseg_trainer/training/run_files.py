"""Read and write single files of a run: safetensors and JSON. Failures become errors that name the file and the remedy."""

from __future__ import annotations

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
from medseg_runtime.files.read import opened, read_bytes
from medseg_runtime.files.replace import replacing
from medseg_runtime.files.typed_json import MAX_JSON_BYTES, parse_json

AGAIN = "Copy the run again, or delete this file and train on."


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
    with _reading(path), safe_open(path, "pt") as file:
        found: dict[str, str] = file.metadata() or {}
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
    if not os.path.lexists(path):
        return {}
    remedy = "Make it again, or delete it."
    content = read_bytes(path, CheckpointError, remedy, name=path.name, limit=MAX_JSON_BYTES)
    try:
        return json_object(content)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path.name} is damaged: {error}", remedy) from error


def json_object(content: bytes | str) -> dict[str, Any]:
    """Parse a JSON object.

    Raises:
        ValueError: it is none; see `parse_json`.
        RecursionError: it is nested so deeply that Python gives up.
    """
    found = parse_json(content if isinstance(content, str) else content.decode())
    if not isinstance(found, dict):
        raise ValueError("it is no JSON object")  # noqa: TRY004 - as for all other damages
    return found


def read_lines(path: Path) -> list[str]:
    """Read the lines of a text file with their ends; none if it is missing or empty.

    Raises:
        CheckpointError: it cannot be read as text.
    """
    if not os.path.lexists(path) or (path.is_file() and not path.stat().st_size):
        return []
    remedy = "Remove it: the training goes on without its log."
    content = read_bytes(path, CheckpointError, remedy, name=path.name)
    try:
        return content.decode().splitlines(keepends=True)
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path.name} is damaged: {error}", remedy) from error


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
        raise OutputError(f"{shown(path)} cannot be written: {reason}", remedy) from error


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    if not os.path.lexists(path):
        raise CheckpointError(f"{path.stem} has not been trained yet", "Run the same `medseg-train fit` to its end.")
    try:
        with opened(path, CheckpointError, AGAIN, name=f"{shown(path)} is damaged", limit=None):
            yield
    except SafetensorError as error:
        raise CheckpointError(f"{shown(path)} is damaged: {error}", AGAIN) from error


def shown(path: Path) -> str:
    """Return a file's path in the run folder, for messages."""
    return f"state/{path.name}" if path.parent.name == "state" else path.name
