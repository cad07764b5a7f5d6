"""The audit file: one JSON line for each image when it has ended, failures too, and one before its result appears.

A run that is killed in between leaves the first of the two. Lines are chained (`writers.audit_line`). A line holds hashes, numbers and names of ours. It holds no path, and nothing of a DICOM header.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medseg_runtime.errors import ImageError, MedsegError
from medseg_runtime.files.read import read_bytes
from medseg_runtime.result.provenance import Provenance, Run, package_versions
from medseg_runtime.result.summary import engine_entry
from medseg_runtime.writers.audit_line import append_record, check_audit_file

AUDIT_VERSION = 2
PUBLISHING, ENDED = "publishing", "ended"
"""The event of a line: a result is about to appear, or an image has ended."""


@dataclass(slots=True)
class Entry:
    """What is known of one image so far."""

    run: Run = field(default_factory=Run)
    input_sha256: str | None = None
    """Of the image, once it is read."""
    provenance: Provenance | None = None
    """Of the masks, once they are drawn."""
    outputs: dict[str, str] = field(default_factory=dict)
    """File in the result folder -> SHA-256, once the folder is there."""


@dataclass(slots=True)
class Audit:
    """The audit file of one command. Without a path nothing is written."""

    path: Path | None
    parameters: dict[str, Any]
    """What was asked of the model."""
    provenance: Provenance | None = None
    """Once the model is loaded."""

    def check(self) -> None:
        """Find out before anything is computed whether lines can be written.

        Raises:
            OutputError: the file cannot be opened, or is not a regular file.
        """
        if self.path is not None:
            check_audit_file(self.path)

    @contextmanager
    def image(self, image: Path | None) -> Iterator[Entry]:
        """Append one line when the block ends. An error in the block is recorded and raised again.

        image: read to hash it, if the error came before its hash was known.
        """
        entry = Entry()
        try:
            yield entry
        except BaseException as error:
            self._append(entry, image, error)
            raise
        self._append(entry, image, None)

    def announce(self, entry: Entry, outputs: dict[str, str]) -> None:
        """Append a line that says which files are about to appear.

        Raises:
            OutputError: it cannot be written.
        """
        if self.path is not None:
            append_record(self.path, self._record(entry, PUBLISHING, entry.input_sha256) | {"outputs": outputs})

    def _append(self, entry: Entry, image: Path | None, error: BaseException | None) -> None:
        if self.path is None:
            return
        ending = {
            "outputs": entry.outputs,
            "error": None if error is None else type(error).__name__,
            "exit_status": 0 if error is None else 130 if isinstance(error, KeyboardInterrupt) else 1,
        }
        sha256 = entry.input_sha256 or _sha256_if_readable(image)
        append_record(self.path, self._record(entry, ENDED, sha256) | ending)

    def _record(self, entry: Entry, event: str, input_sha256: str | None) -> dict[str, Any]:
        known = entry.provenance or self.provenance
        return {
            "audit_version": AUDIT_VERSION,
            "event": event,
            "run_id": entry.run.id,
            "time_utc": entry.run.time_utc,
            "versions": package_versions() if known is None else known.versions,
            "engine": None if known is None else engine_entry(known),
            "bundle": None if known is None else {"name": known.bundle, "sha256": known.bundle_sha256},
            "input_sha256": input_sha256,
            "parameters": {name: _for_json(value) for name, value in self.parameters.items()},
        }


def _for_json(value: Any) -> Any:
    """JSON has no NaN, and a refused threshold may be one."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _sha256_if_readable(image: Path | None) -> str | None:
    try:
        return None if image is None else hashlib.sha256(read_bytes(image, ImageError, "")).hexdigest()
    except MedsegError:
        return None
