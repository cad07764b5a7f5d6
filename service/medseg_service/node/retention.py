"""Remove what has been kept for long enough: results, letters and records of ended jobs, then images that no job names."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

from medseg_runtime.files.sweep import remove_folder
from medseg_service.node.config import Retention
from medseg_service.node.failure import place_of
from medseg_service.node.job import State
from medseg_service.node.job_store import JobStore
from medseg_service.node.object_store import ObjectStore

EVERY_S = 60.0
HOUR = 3600.0
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sweeper:
    """Removes what is old, once a minute."""

    retention: Retention
    jobs: JobStore
    objects: ObjectStore
    folders: tuple[Path, ...]
    """Of results and of letters; each job has a folder in them."""
    stopping: Event

    def start(self) -> None:
        """Sweep in a thread until `stopping` is set."""
        Thread(target=self._run, name="medseg-retention", daemon=True).start()

    def sweep(self) -> None:
        """Remove what is old now. What is killed half-way is done by the next one: the record goes last."""
        now = time.time()
        hours = {State.DONE: self.retention.done_hours, State.DEAD: self.retention.dead_hours}
        for state, kept in hours.items():
            for job in self.jobs.ended_before(state, now - kept * HOUR):
                for folder in self.folders:
                    remove_folder(folder / job.id)
                self.jobs.forget(job)
        self.objects.remove_unused(now - self.retention.done_hours * HOUR)

    def _run(self) -> None:
        while True:
            try:
                self.sweep()
            except Exception as error:  # noqa: BLE001 - it is tried again in a minute
                log.error("retention: %s", place_of(error))
            if self.stopping.wait(EVERY_S):
                return
