"""What follows from a failure: another attempt, or a dead letter."""

import json
import stat
from threading import Event

import pytest

from medseg_runtime.errors import ImageError
from medseg_service.audit_trail import AuditTrail
from medseg_service.errors import RemoteError
from medseg_service.node.config import Limits
from medseg_service.node.endings import Endings
from medseg_service.node.gathering import NotYet
from medseg_service.node.job import State
from medseg_service.node.stage import Stage
from medseg_service.node.worker_process import WorkerDied

FAILED = RemoteError("the archive cannot be reached", "Start it.")


@pytest.fixture
def letters(tmp_path):
    return tmp_path / "dead"


@pytest.fixture
def stage(jobs, metrics, letters, tmp_path):
    """stage(errors, **limits) -> a stage whose work raises these errors one after the other, and then succeeds."""

    def make(*errors, stopping=None, **limits):
        left = list(errors)

        def work(job):
            if left:
                raise left.pop(0)
            jobs.move(job, State.SENDING)

        return Stage(
            name="test",
            takes=State.QUEUED,
            while_working=State.RUNNING,
            work=work,
            jobs=jobs,
            endings=Endings(jobs=jobs, letters=letters, audit=AuditTrail(tmp_path / "audit"), metrics=metrics),
            metrics=metrics,
            limits=Limits(**{"backoff_s": 1e-9} | limits),
            stopping=stopping or Event(),
        )

    return make


@pytest.fixture
def queued(jobs, order, caller):
    job, _ = jobs.submit(order(), caller)
    jobs.move(job, State.QUEUED)
    return job.id


def attempt(stage, jobs, times=1):
    for _ in range(times):
        job = jobs.next(State.QUEUED, move_to=State.RUNNING)
        if job is not None:
            stage.attempt(job)


def test_what_may_pass_is_tried_again(stage, jobs, queued):
    made = stage(FAILED, OSError("disk"))
    attempt(made, jobs, 2)
    job = jobs.get(queued)
    assert (job.state, job.attempts, job.reason["error"]) == (State.QUEUED, 2, "OSError")
    assert "disk" not in job.reason["problem"]  # the text of an exception may quote a header
    attempt(made, jobs)
    assert (jobs.get(queued).state, jobs.get(queued).attempts) == (State.SENDING, 0)


def test_attempts_have_a_limit_and_a_letter_says_why(stage, jobs, queued, letters, tmp_path):
    attempt(stage(*[FAILED] * 5, attempts=3), jobs, 5)
    assert jobs.get(queued).state is State.DEAD
    path = letters / queued / "reason.json"
    letter = json.loads(path.read_text())
    assert (letter["error"], letter["remedy"], letter["job"]) == ("RemoteError", "Start it.", queued)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    (line,) = map(json.loads, (tmp_path / "audit").read_text().splitlines())
    assert (line["event"], line["state"], line["error"], line["run_id"]) == ("ended", "dead", "RemoteError", queued)


def test_each_attempt_waits_twice_as_long(stage, jobs, queued):
    made = stage(FAILED, FAILED, backoff_s=50.0)
    attempt(made, jobs)
    first = jobs.get(queued)
    assert 45 < first.not_before - first.changed <= 50
    assert jobs.next(State.QUEUED) is None
    made.attempt(first)
    second = jobs.get(queued)
    assert 95 < second.not_before - second.changed <= 100


def test_what_cannot_pass_is_dead_at_once(stage, jobs, queued):
    attempt(stage(ImageError("it is damaged", "Send another.")), jobs)
    job = jobs.get(queued)
    assert (job.state, job.reason["problem"]) == (State.DEAD, "it is damaged")


def test_a_job_that_kills_its_worker_is_named_and_others_go_on(stage, jobs, queued, order, caller, letters):
    other, _ = jobs.submit(order(1), caller)
    jobs.move(other, State.QUEUED)
    died = WorkerDied("it was ended by SIGKILL")
    attempt(stage(died), jobs)
    assert jobs.get(queued).crashes == 1
    attempt(stage(), jobs)
    assert jobs.get(other.id).state is State.SENDING  # the poison went behind it
    attempt(stage(died), jobs)
    assert jobs.get(queued).state is State.DEAD
    assert "killed the worker 2 times: it was ended by SIGKILL" in (letters / queued / "reason.json").read_text()


def test_the_end_of_the_node_is_not_held_against_a_job(stage, jobs, queued):
    stopping = Event()
    stopping.set()
    attempt(stage(WorkerDied("it was stopped"), stopping=stopping), jobs)
    job = jobs.get(queued)
    assert (job.state, job.crashes, job.attempts, job.interruptions) == (State.QUEUED, 0, 0, 0)


def test_images_that_do_not_come_are_waited_for_and_then_given_up(stage, jobs, queued):
    made = stage(NotYet(0.0))
    job = jobs.get(queued)
    made.attempt(job)
    assert (jobs.get(queued).state, jobs.get(queued).attempts) == (State.QUEUED, 0)
    stage(NotYet(0.0), wait_s=1e-9).attempt(jobs.get(queued))
    assert jobs.get(queued).reason["error"] == "ImagesMissing"
