"""Audit lines of a service: who asked for what, and how it ended. Lines are chained as those of `medseg-infer --audit`.

A line holds hashes, numbers, AE titles and network addresses, and nothing of a DICOM header. `medseg-doctor --audit` checks the chain.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from medseg_runtime.commands.audit import AUDIT_VERSION
from medseg_runtime.result.provenance import package_versions
from medseg_runtime.writers.audit_line import append_record, check_audit_file


@dataclass(frozen=True, slots=True)
class AuditTrail:
    """The audit file of a service. Without a path nothing is written."""

    path: Path | None

    def check(self) -> None:
        """Find out at the start whether lines can be written.

        Raises:
            OutputError: the file cannot be opened, or is not a regular file.
        """
        if self.path is not None:
            check_audit_file(self.path)

    def write(self, event: str, run_id: str, **fields: Any) -> None:
        """Append a line, and wait until the disk has it.

        event: what happened; `publishing` is followed by `ended` unless the process was killed. run_id: of the job.

        Raises:
            OutputError: it cannot be written.
        """
        if self.path is not None:
            record = {
                "audit_version": AUDIT_VERSION,
                "event": event,
                "run_id": run_id,
                "time_utc": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "versions": package_versions(),
            }
            append_record(self.path, record | fields)
