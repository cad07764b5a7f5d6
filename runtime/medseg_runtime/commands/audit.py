"""Which bytes a run took, which it made, and with what: for result.json, and for the audit file.

The audit file is append-only, one JSON object a line, one line an image, failures too. It holds hashes, numbers and names of
our own; no path, and nothing of a DICOM header.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg_runtime._version import __version__
from medseg_runtime.errors import ImageError, MedsegError, OutputError
from medseg_runtime.files.lock import lock

if TYPE_CHECKING:
    from medseg_runtime.inference.segmenter import Segmenter

AUDIT_VERSION = 1


@dataclass(slots=True)
class Run:
    """One image on its way through."""

    id: str = field(default_factory=lambda: secrets.token_hex(16))
    time_utc: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="milliseconds"))
    input_sha256: str | None = None
    """Of the image, once it is read."""
    outputs: dict[str, str] = field(default_factory=dict)
    """File in the result folder -> SHA-256, once that stands."""


@dataclass(slots=True)
class Audit:
    """The audit file of one command; without a path nothing is written."""

    path: Path | None
    parameters: dict[str, Any]
    """What was asked of the model."""
    segmenter: Segmenter | None = None
    """Once it is loaded."""

    def check(self) -> None:
        """Find out before anything is computed whether lines can be written.

        Raises:
            OutputError: the file cannot be opened, or is none.
        """
        if self.path is not None:
            with _opened(self.path):
                pass

    @contextmanager
    def image(self, image: Path | None) -> Iterator[Run]:
        """Write one line for what happens inside; an error goes on its way afterwards.

        image: read to hash it if the error came before its hash was known.
        """
        run = Run()
        try:
            yield run
        except BaseException as error:
            self._append(run, image, error)
            raise
        self._append(run, image, None)

    def _append(self, run: Run, image: Path | None, error: BaseException | None) -> None:
        if self.path is None:
            return
        known = self.segmenter
        entry = {
            "audit_version": AUDIT_VERSION,
            "run_id": run.id,
            "time_utc": run.time_utc,
            "versions": versions(known),
            "engine": None if known is None else engine(known),
            "bundle": None if known is None else {"name": known.manifest.name, "sha256": known.bundle_sha256},
            "input_sha256": run.input_sha256 or _sha256_if_readable(image),
            "parameters": {name: _in_json(value) for name, value in self.parameters.items()},
            "outputs": run.outputs,
            "error": None if error is None else type(error).__name__,
            "exit_status": 0 if error is None else 130 if isinstance(error, KeyboardInterrupt) else 1,
        }
        append_line(self.path, json.dumps(entry, allow_nan=False))


def append_line(path: Path, line: str) -> None:
    """Append one line in one write, and wait until the disk has it.

    Raises:
        OutputError: it cannot be written; then the file is as it was.
    """
    content = line.encode() + b"\n"
    with _opened(path) as descriptor:
        lock(descriptor)  # until it is closed
        size = os.fstat(descriptor).st_size
        try:
            written = os.write(descriptor, content)
        except OSError:
            os.ftruncate(descriptor, size)
            raise
        if written != len(content):
            os.ftruncate(descriptor, size)
            raise OutputError("the audit line cannot be written: the disk is full", "Free some space and run it again.")
        os.fsync(descriptor)


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    try:
        # O_NONBLOCK: opening a pipe that nobody reads would otherwise wait for ever.
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OutputError("the audit file is a pipe or a device", "Give a plain file to --audit.")
            yield descriptor
        finally:
            os.close(descriptor)
    except MedsegError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        reason = error.strerror if isinstance(error, OSError) else error
        raise OutputError(f"the audit file cannot be written: {reason}", "Give another --audit.") from error


def versions(segmenter: Segmenter | None) -> dict[str, str]:
    """Return what the masks depend on: name -> version."""
    import numpy as np
    import PIL

    engine = {} if segmenter is None else {segmenter.backend.name: segmenter.backend.version}
    return {
        "medseglatdiff": __version__,
        **engine,
        "numpy": np.__version__,
        "pillow": PIL.__version__,
        "python": platform.python_version(),
    }


def engine(segmenter: Segmenter) -> dict[str, str]:
    """Return what ran the networks, and why it was that: low precision moves the edge of a mask by a pixel here and there."""
    backend = segmenter.backend
    return {"name": backend.name, "version": backend.version, "precision": backend.precision, "why": backend.why}


def _in_json(value: Any) -> Any:
    """JSON has no NaN, and a refused threshold may be one."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _sha256_if_readable(image: Path | None) -> str | None:
    from medseg_runtime.files.read import read_bytes

    try:
        return None if image is None else hashlib.sha256(read_bytes(image, ImageError, "")).hexdigest()
    except MedsegError:
        return None
