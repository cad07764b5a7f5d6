"""How jobs end: done, or dead with a letter that says why. A letter is on the disk before its job is dead."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medseg_runtime.files.replace import replacing
from medseg_service.audit_trail import AuditTrail
from medseg_service.node.job import Job, State
from medseg_service.node.job_store import JobStore
from medseg_service.node.metrics import Metrics

LETTER = "reason.json"
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Endings:
    """Ends jobs."""

    jobs: JobStore
    letters: Path
    """Folder of dead letters, one folder a job."""
    audit: AuditTrail
    metrics: Metrics

    def done(self, job: Job) -> None:
        """End a job whose objects have arrived."""
        self._record(job, State.DONE, None)
        self.jobs.move(job, State.DONE, reason=None)
        log.info("job %s: done", job.id)

    def dead(self, job: Job, reason: dict[str, Any]) -> None:
        """Give a job up."""
        folder = self.letters / job.id
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        letter = {
            "job": job.id,
            "state": job.state,
            "order": asdict(job.order),
            "caller": asdict(job.caller),
            "created": job.created,
            "attempts": job.attempts,
            "crashes": job.crashes,
            "interruptions": job.interruptions,
            **reason,
        }
        with replacing(folder / LETTER, mode=0o600) as temporary, temporary.open("w", encoding="utf-8") as file:
            json.dump(letter, file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        self._record(job, State.DEAD, reason["error"])
        self.jobs.move(job, State.DEAD, reason=reason)
        log.error("job %s: dead: %s. %s", job.id, reason["problem"], reason["remedy"])

    def _record(self, job: Job, state: State, error: str | None) -> None:
        self.metrics.ended.labels(state).inc()
        self.audit.write(
            "ended",
            job.id,
            state=state,
            caller=asdict(job.caller),
            outputs=job.outputs,
            error=error,
            exit_status=0 if error is None else 1,
        )
