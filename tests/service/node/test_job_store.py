"""Jobs on disk: each change is whole, and nothing is forgotten."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from medseg_runtime.errors import OutputError
from medseg_service.errors import QueueFullError
from medseg_service.node.database import Database
from medseg_service.node.job import OPEN, Order, State
from medseg_service.node.job_store import JobStore


def test_an_order_is_one_job(jobs, order, caller):
    job, is_new = jobs.submit(order(), caller)
    assert is_new
    assert jobs.submit(order(), caller) == (job, False)
    assert (job.id, job.state, job.order, job.caller) == (order().id, State.RECEIVED, order(), caller)
    assert jobs.get(job.id) == job
    assert jobs.get("0" * 32) is None


def test_the_id_depends_on_the_order_alone(order):
    assert order().id == order().id != order(1).id


def test_a_job_that_has_ended_is_done_again(jobs, order, caller):
    job, _ = jobs.submit(order(), caller)
    jobs.move(job, State.DEAD, reason={"error": "x", "problem": "y", "remedy": "z"})
    again, is_new = jobs.submit(order(), caller)
    assert is_new
    assert (again.state, again.reason, again.attempts) == (State.RECEIVED, None, 0)


def test_a_full_queue_is_refused_and_open_jobs_are_not(jobs, order, caller):
    for number in range(5):
        jobs.submit(order(number), caller)
    assert jobs.is_full()
    with pytest.raises(QueueFullError, match="5 jobs are open"):
        jobs.submit(order(5), caller)
    assert not jobs.submit(order(4), caller)[1]
    jobs.move(jobs.get(order(0).id), State.DONE)
    assert jobs.submit(order(5), caller)[1]


def test_jobs_go_in_their_order_and_failed_ones_behind_the_others(jobs, order, caller):
    first, second = (jobs.submit(order(number), caller)[0] for number in range(2))
    assert jobs.next(State.RECEIVED).id == first.id
    jobs.put_off(first, 0.0, attempts=1)
    assert jobs.next(State.RECEIVED).id == second.id
    jobs.put_off(second, 60.0)
    jobs.put_off(first, 60.0)
    assert jobs.next(State.RECEIVED) is None


def test_what_ran_is_queued_again_behind_the_others(jobs, order, caller):
    for number in range(2):
        jobs.move(jobs.submit(order(number), caller)[0], State.QUEUED)
    assert jobs.next(State.QUEUED, move_to=State.RUNNING).state is State.RUNNING
    (found,) = jobs.recover()
    assert (found.id, found.state, found.interruptions) == (order(0).id, State.QUEUED, 1)
    assert jobs.next(State.QUEUED).id == order(1).id
    assert jobs.recover() == []


def test_a_job_is_forgotten_unless_it_was_asked_for_again(jobs, order, caller):
    job, _ = jobs.submit(order(), caller)
    jobs.move(job, State.DONE)
    (ended,) = jobs.ended_before(State.DONE, time.time() + 1)
    jobs.submit(order(), caller)
    jobs.forget(ended)
    assert jobs.get(job.id).state is State.RECEIVED


def test_a_database_of_another_version_is_refused(tmp_path):
    database = Database(tmp_path / "x.sqlite")
    with database.transaction() as connection:
        connection.execute("PRAGMA user_version = 9")
    database.close()
    with pytest.raises(OutputError, match="version 9, not 1"):
        Database(tmp_path / "x.sqlite")


def test_a_file_that_is_no_database_is_refused(tmp_path):
    (tmp_path / "x.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(OutputError, match="cannot be opened"):
        Database(tmp_path / "x.sqlite")


SUBMIT = """
import sys
from pathlib import Path
from medseg_service.node.database import Database
from medseg_service.node.job import Caller, Order, State
from medseg_service.node.job_store import JobStore

jobs = JobStore(Database(Path(sys.argv[1])), limit=10**6)
caller = Caller(ae_title=None, address=None, trace_id="0" * 32)
for number in range(int(sys.argv[2]), 10**6):
    job, _ = jobs.submit(Order(origin="rest", study="1", series="2", instance=f"3.{number}"), caller)
    print(number, flush=True)
    jobs.move(job, State.QUEUED)
"""


def test_an_acknowledged_job_survives_a_kill(tmp_path):
    path, acknowledged = tmp_path / "node.sqlite", 0
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", SUBMIT, path, str(acknowledged)], stdout=subprocess.PIPE, text=True
        )
        process.stdout.readline()
        time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
        rest = process.communicate()[0].splitlines()
        acknowledged = max([acknowledged, *(int(line) + 1 for line in rest if line)])
        database = Database(path)
        counts = JobStore(database, limit=1).counts()
        database.close()
        assert sum(counts[state] for state in OPEN) >= acknowledged


def test_nothing_of_a_header_is_in_the_database(jobs, order, caller, tmp_path):
    jobs.submit(order(), caller)
    kept = json.dumps([path.read_bytes().decode("latin-1") for path in tmp_path.glob("node.sqlite*")])
    assert "CompressedSamples" not in kept


def test_a_clock_that_is_set_back_holds_no_job_up(jobs, order, caller, monkeypatch):
    job, _ = jobs.submit(order(), caller)
    jobs.put_off(job, 60.0)
    assert jobs.next(State.RECEIVED) is None
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 86400)
    assert jobs.next(State.RECEIVED).id == job.id


def test_a_job_that_was_asked_for_again_is_not_ended_by_its_older_run(jobs, caller):
    rule = Order(origin="rule", study="1.2", series="1.3")
    job, _ = jobs.submit(rule, caller)
    jobs.move(job, State.SENDING)
    sending = jobs.get(job.id)
    assert jobs.submit(rule, caller)[0].id == job.id  # another image of the series has come
    jobs.move(sending, State.DONE)
    assert jobs.get(job.id).state is State.RECEIVED
