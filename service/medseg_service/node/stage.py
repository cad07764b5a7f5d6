"""A stage: a thread that takes the jobs of one state, one after the other, tries again what fails, and gives up in the end."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event, Thread
from typing import Any

from medseg_runtime.errors import ImageError, ParameterError
from medseg_service.node.config import Limits
from medseg_service.node.endings import Endings
from medseg_service.node.failure import reason_of
from medseg_service.node.gathering import NotYet
from medseg_service.node.job import Job, State
from medseg_service.node.job_store import LONGEST_WAIT_S, JobStore
from medseg_service.node.metrics import Metrics
from medseg_service.node.worker_process import JobFailed, WorkerDied

POLL_S = 0.2
log = logging.getLogger(__name__)


@dataclass(kw_only=True, slots=True)
class Stage:
    """One step of all jobs."""

    name: str
    takes: State
    work: Callable[[Job], None]
    """Do the step, and move the job on."""
    jobs: JobStore
    endings: Endings
    metrics: Metrics
    limits: Limits
    stopping: Event
    while_working: State | None = None
    """The state of the job that is worked on, if not the one that it was taken from."""
    prepare: Callable[[], None] | None = None
    """What to do before the first job."""
    thread: Thread | None = None

    def start(self) -> None:
        """Work in a thread until `stopping` is set."""
        self.thread = Thread(target=self._run, name=f"medseg-{self.name}", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        if self.prepare is not None:
            self._guarded(self.prepare)
        while not self.stopping.is_set():
            self._guarded(self._step)

    def _step(self) -> None:
        job = self.jobs.next(self.takes, move_to=self.while_working)
        if job is None:
            self.stopping.wait(POLL_S)
        else:
            self.attempt(job)

    def _guarded(self, action: Callable[[], None]) -> None:
        """Do something, and go on if it fails."""
        try:
            action()
        except Exception as error:  # noqa: BLE001 - the disk is full, for example: the job is as it was
            reason = reason_of(error)
            log.error("%s: %s. %s", self.name, reason["problem"], reason["remedy"])
            self.stopping.wait(self.limits.backoff_s)

    def attempt(self, job: Job) -> None:
        """Do the step for one job, and decide what follows from a failure."""
        start = time.perf_counter()
        try:
            self.work(job)
        except NotYet as wait:
            self._wait(job, wait.seconds)
            return
        except WorkerDied as error:
            self._after_crash(job, error)
        except JobFailed as error:
            self._after_failure(job, error.reason, permanent=error.permanent)
        except (ImageError, ParameterError) as error:
            self._after_failure(job, reason_of(error), permanent=True)
        except Exception as error:  # noqa: BLE001 - one job must not end the others
            self._after_failure(job, reason_of(error), permanent=False)
        self.metrics.stage_seconds.labels(self.name).observe(time.perf_counter() - start)

    def _wait(self, job: Job, seconds: float) -> None:
        if time.time() - job.created < self.limits.wait_s:
            self.jobs.put_off(job, seconds)
            return
        problem = f"its images have not come within {self.limits.wait_s:.0f} s"
        remedy = "Send the whole series to the node, or set [source] to fetch it, and ask again."
        self.endings.dead(job, {"error": "ImagesMissing", "problem": problem, "remedy": remedy})

    def _after_crash(self, job: Job, error: WorkerDied) -> None:
        if self.stopping.is_set():  # the node itself ended the worker
            self.jobs.put_off(job, 0.0, state=self.takes)
            return
        self.metrics.worker_deaths.inc()
        crashes = job.crashes + 1
        problem = f"it killed the worker {crashes} times: {error}"
        remedy = "Segment its image with medseg-infer to see why, with more memory if it was ended by SIGKILL."
        reason = {"error": "WorkerDied", "problem": problem, "remedy": remedy}
        log.warning("job %s: the worker died: %s", job.id, error)
        if crashes >= self.limits.crashes:
            self.endings.dead(job, reason)
        else:
            self.jobs.put_off(job, 0.0, state=self.takes, crashes=crashes, reason=reason)

    def _after_failure(self, job: Job, reason: dict[str, Any], *, permanent: bool) -> None:
        self.metrics.failures.labels(self.name, reason["error"]).inc()
        attempts = job.attempts + 1
        if permanent or attempts >= self.limits.attempts:
            self.endings.dead(job, reason)
            return
        seconds = min(self.limits.backoff_s * 2 ** (attempts - 1), LONGEST_WAIT_S)
        log.warning("job %s: attempt %d of %s failed: %s", job.id, attempts, self.name, reason["problem"])
        self.jobs.put_off(job, seconds, state=self.takes, attempts=attempts, reason=reason)
