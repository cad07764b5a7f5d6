"""The trials themselves: what is broken by a kill is counted, and what a program that does right leaves is not."""

import random
import signal
import subprocess
import sys
from collections import Counter

import pytest

pytest.importorskip("monai", reason="the benchmarks need `pip install 'medseglatdiff[bench]'`")

from benchmarks.robustness.kills import trials
from benchmarks.robustness.kills.forked import Forked
from benchmarks.robustness.kills.trials import FAILED, UNSWEPT, Kills, Trials, kill_often

SLOWLY = "import time; file = open('out', 'w'); file.write('first '); file.flush(); time.sleep(1.0); file.write('last')"
AT_ONCE = (
    "import os, time; open('.partial-x', 'w').write('first last'); time.sleep(1.0); os.replace('.partial-x', 'out')"
)


class Writer:
    """A program that writes one file."""

    faults = ("half file",)
    kills_between = 2

    def __init__(self, code):
        self.code = code

    def prepare(self, folder):
        self.folder = folder

    def start(self, _chance, errors):
        return subprocess.Popen([sys.executable, "-c", self.code], cwd=self.folder, stderr=errors)

    def check_kill(self, found):
        out = self.folder / "out"
        found["half file"] += out.exists() and out.read_text() != "first last"

    check_end = check_kill


@pytest.fixture(autouse=True)
def _interrupts_stay():
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


def record(path, code, kills, before=None):
    before = before or Kills(subject="writer", command="", date="2026-01-01", seed=0)
    return kill_often(Writer(code), before, kills, path)


@pytest.mark.slow
def test_half_files_are_counted(tmp_path):
    found = record(tmp_path / "kills.json", SLOWLY, 4)
    assert found.faults["half file"] >= 1
    assert Kills.read(tmp_path / "kills.json") == found


@pytest.mark.slow
def test_whole_files_are_not_and_the_same_call_goes_on(tmp_path):
    first = record(tmp_path / "kills.json", AT_ONCE, 2)
    assert 2 <= sum(first.killed.values()) <= 3
    again = record(tmp_path / "kills.json", AT_ONCE, 4, first)
    assert 4 <= sum(again.killed.values()) <= 5
    assert not any(again.faults.values())
    assert again.seconds > first.seconds


def test_a_run_that_fails_and_what_it_does_not_sweep_are_counted(tmp_path):
    (tmp_path / ".partial-old").write_text("")
    found = Trials(Writer("raise SystemExit(1)"), tmp_path, random.Random(0)).found  # noqa: S311 - no secret
    assert found == Counter({FAILED: 2, UNSWEPT: 2, "runs to the end": 2, "half file": 0})


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # of Python 3.12: the test's process may have threads
def test_a_fork_ends_as_a_program_does(tmp_path):
    with (tmp_path / "said").open("w") as errors:
        assert Forked(lambda: sys.exit(3), ["program"], errors).wait(trials.RUN_SECONDS) == 3
        assert Forked(lambda: None, ["program"], errors).wait(trials.RUN_SECONDS) == 70
        killed = Forked(signal.pause, ["program"], errors)
        killed.send_signal(signal.SIGKILL)
        assert killed.wait(trials.RUN_SECONDS) == -signal.SIGKILL
        assert Forked(lambda: 1 / 0, ["program"], errors).wait(trials.RUN_SECONDS) == 70
    assert "ZeroDivisionError" in (tmp_path / "said").read_text()
