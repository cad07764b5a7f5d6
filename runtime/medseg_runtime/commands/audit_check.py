"""Check an audit file: whether the chain of its lines is whole, and whether every result that was begun got its last line."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

from medseg_runtime.commands.audit import PUBLISHING
from medseg_runtime.errors import OutputError
from medseg_runtime.writers.audit_line import PREVIOUS


@dataclass(slots=True)
class AuditCheck:
    """What an audit file says of itself."""

    lines: int = 0
    unchained: int = 0
    """Lines at the beginning, of a version that chained none."""
    broken: list[int] = field(default_factory=list)
    """Numbers, from 1, of lines that do not continue the line before."""
    unfinished: list[str] = field(default_factory=list)
    """Runs that were about to publish a result, and were killed before they could write how it ended."""
    last_sha256: str | None = None
    """Of the last line: kept elsewhere, it shows whether lines were removed at the end."""


def check_audit(path: Path) -> AuditCheck:
    """Read an audit file.

    Raises:
        OutputError: it cannot be read.
    """
    check, begun = AuditCheck(), dict[str, None]()
    try:
        with path.open("rb") as file:
            for content in file:
                _check_line(content.removesuffix(b"\n"), check, begun)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise OutputError(f"the audit file cannot be read: {reason}", "Give the file that --audit wrote.") from error
    check.unfinished = list(begun)
    return check


def _check_line(content: bytes, check: AuditCheck, begun: dict[str, None]) -> None:
    check.lines += 1
    try:
        record = json.loads(content)
        run, event = str(record["run_id"]), record.get("event")
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        record, run, event = {}, "", None
    if isinstance(record, dict) and PREVIOUS in record:
        if record[PREVIOUS] != check.last_sha256:
            check.broken.append(check.lines)
    elif check.unchained == check.lines - 1 and run:
        check.unchained += 1
    else:
        check.broken.append(check.lines)
    if event == PUBLISHING:
        begun[run] = None
    else:
        begun.pop(run, None)
    check.last_sha256 = hashlib.sha256(content).hexdigest()
