"""A node: what listens, what works, and the state folder that all of it is kept in.

STATE/lock          held while a node runs
STATE/node.sqlite   jobs, and which objects are here
STATE/objects/      received images and reports
STATE/results/      one result folder a job
STATE/dead/         one letter a job that was given up
"""

from __future__ import annotations

import hashlib
import logging
import os
from dataclasses import asdict
from functools import partial
from pathlib import Path
from threading import Event

from medseg_runtime.errors import OutputError
from medseg_runtime.files.lock import lock
from medseg_service.audit_trail import AuditTrail
from medseg_service.bearer_token import read_token
from medseg_service.http_server import HttpServer
from medseg_service.listening import bound_socket
from medseg_service.node.check import check_config
from medseg_service.node.config import NodeConfig
from medseg_service.node.database import Database
from medseg_service.node.delivery import deliver, result_files
from medseg_service.node.endings import Endings
from medseg_service.node.gathering import POLL_S, Gathering, NotYet
from medseg_service.node.intake import Intake
from medseg_service.node.job import Job, State
from medseg_service.node.job_store import JobStore
from medseg_service.node.metrics import Metrics
from medseg_service.node.object_store import ObjectStore
from medseg_service.node.rest import Api
from medseg_service.node.retention import Sweeper
from medseg_service.node.scp import DicomServer
from medseg_service.node.stage import Stage
from medseg_service.node.worker_process import WorkerProcess
from medseg_service.tls import server_context

GRACE_S = 30.0
"""For associations and for the jobs under way, when the node is asked to stop."""
log = logging.getLogger(__name__)


class Node:
    """A running node. Construct it, `start` it, and `stop` it."""

    def __init__(self, path: Path, config: NodeConfig) -> None:
        """Open the state folder and bind the ports; nothing is answered yet. path: of the configuration, for the workers.

        Raises:
            ConfigurationError, BundleError: the configuration cannot be used.
            OutputError: the state folder cannot be used, or another node uses it.
        """
        needs_point = check_config(config)
        self.config = config
        self._lock = _locked(config.state)
        self._stopping = Event()
        self.audit = AuditTrail(config.audit)
        self.audit.check()
        self._database = Database(config.state / "node.sqlite")
        self.jobs = JobStore(self._database, limit=config.limits.open_jobs)
        self.metrics = Metrics(self.jobs.counts)
        self.objects = ObjectStore(self._database, config.state / "objects", free_bytes=config.limits.free_bytes)
        self.results, letters = config.state / "results", config.state / "dead"
        self._endings = Endings(jobs=self.jobs, letters=letters, audit=self.audit, metrics=self.metrics)
        self._workers = [WorkerProcess(path) for _ in range(config.model.workers)]
        self.metrics.workers.set_function(self._ready_workers)
        self._stages = self._make_stages()
        self._sweeper = Sweeper(
            retention=config.retention,
            jobs=self.jobs,
            objects=self.objects,
            folders=(self.results, letters),
            stopping=self._stopping,
        )
        self.intake = Intake(self.objects, self.jobs, config.rules)
        self.dicom = DicomServer(config.dicom, self.intake, self.metrics, self._accepted)
        self.http = self._make_http(needs_point=needs_point)

    def start(self) -> None:
        """Take up the jobs that were left, and answer the network."""
        for job in self.jobs.recover():
            if job.interruptions >= self.config.limits.interruptions:
                problem = f"the node was killed {job.interruptions} times while it ran"
                reason = {
                    "error": "Interrupted",
                    "problem": problem,
                    "remedy": "See what ends the node, and ask again.",
                }
                self._endings.dead(job, reason)
        self._sweeper.start()
        for stage in self._stages:
            stage.start()
        self.dicom.start()
        self.http.start()

    def stop(self) -> None:
        """Answer what is in flight, finish the jobs under way or give them back to the queue, and close everything."""
        self._stopping.set()
        self.dicom.stop(GRACE_S)
        self.http.stop()
        for stage in self._stages:
            if stage.thread is not None:
                stage.thread.join(GRACE_S)
        for worker in self._workers:
            worker.stop()
        for stage in self._stages:
            if stage.thread is not None:
                stage.thread.join()
        self._database.close()
        os.close(self._lock)

    def _make_http(self, *, needs_point: bool) -> HttpServer:
        http = self.config.http
        api = Api(
            jobs=self.jobs,
            metrics=self.metrics,
            token=None if http.token_file is None else read_token(http.token_file),
            any_host=http.token_file is not None or http.allow_insecure,
            needs_point=needs_point,
            is_ready=lambda: self._ready_workers() > 0,
            accepted=self._accepted,
        )
        context = None if http.tls is None else server_context(http.tls)
        return HttpServer(api.application(), bound_socket(http.host, http.port), context)

    def _ready_workers(self) -> int:
        return sum(worker.ready for worker in self._workers)

    def _make_stages(self) -> list[Stage]:
        gathering = Gathering(
            objects=self.objects,
            source=self.config.source,
            limits=self.config.limits,
            slices=self.config.model.slices,
        )

        def gather(job: Job) -> None:
            if job.order.series:
                gathering.gather(job.order)
                self.jobs.move(job, State.QUEUED)
            elif series := gathering.series_of(job.order):
                self.jobs.found_series(job, series)
            else:
                raise NotYet(POLL_S)

        stage = partial(
            Stage,
            jobs=self.jobs,
            endings=self._endings,
            metrics=self.metrics,
            limits=self.config.limits,
            stopping=self._stopping,
        )
        return [
            stage(name="gather", takes=State.RECEIVED, work=gather),
            *(
                stage(
                    name="segment",
                    takes=State.QUEUED,
                    while_working=State.RUNNING,
                    prepare=worker.start,
                    work=partial(self._segment, worker),
                )
                for worker in self._workers
            ),
            stage(name="send", takes=State.SENDING, work=self._send),
        ]

    def _accepted(self, job: Job) -> None:
        """Note a new job."""
        log.info("job %s: received from %s", job.id, job.caller.ae_title or job.caller.address)
        self.audit.write("accepted", job.id, caller=asdict(job.caller), origin=job.order.origin)

    def _segment(self, worker: WorkerProcess, job: Job) -> None:
        order = job.order
        series = self.objects.path(order.study, order.series)
        before = self.objects.state_of(order.study, order.series, order.instance)
        found = worker.segment(order, series, self.results / job.id, self.config.limits.job_s)
        if self.objects.state_of(order.study, order.series, order.instance) != before:
            log.warning("job %s: its images changed while it ran, and it is done again", job.id)
            self.jobs.move(job, State.RECEIVED)
            return
        self.metrics.results.labels("empty").inc(found["empty"])
        self.metrics.results.labels("present").inc(found["images"] - found["empty"])
        for agreement in found["agreement"]:
            self.metrics.agreement.observe(agreement)
        self.jobs.move(job, State.SENDING, outputs=found["outputs"])

    def _send(self, job: Job) -> None:
        files = result_files(self.results / job.id)
        hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        if hashes != job.outputs:  # lost or damaged on the disk
            log.warning("job %s: its result is not what was written, and is made again", job.id)
            self.jobs.move(job, State.QUEUED)
            return
        self.audit.write("publishing", job.id, caller=asdict(job.caller), outputs=hashes)
        self.metrics.sent_bytes.inc(deliver(self.config.destination, self.config.dicom.ae_title, files))
        self._endings.done(job)


def _locked(state: Path) -> int:
    """Make the state folder, and hold its lock.

    Raises:
        OutputError: it cannot be made or written to, or another node holds it.
    """
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise OutputError(f"the state folder cannot be used: {error.strerror}", "Choose another `state`.") from error
    if not lock(descriptor, wait=False):
        os.close(descriptor)
        raise OutputError("another node uses this state folder", "End it, or choose another `state`.")
    return descriptor
