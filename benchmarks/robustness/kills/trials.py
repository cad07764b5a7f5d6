"""Kill a command at random times, look at what is there after each kill, and count."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Protocol

from benchmarks.common.json_record import JsonRecord
from benchmarks.robustness.kills.orphans import age_orphans, orphans

SIGNALS = {signal.SIGKILL: 8, signal.SIGTERM: 1, signal.SIGINT: 1}
"""How often each is sent, of ten."""
PATIENCE_SECONDS, RUN_SECONDS = 120, 600
"""For a run to end after a signal that it may handle, and without one."""
SHRINKS = 0.8
"""Of the time that a run takes: the least that is left of it by a faster one."""
ORPHANS, UNSWEPT, FAILED, HANGS = "orphans", "orphan not swept", "next run failed", "run hangs"
FAULTS = (UNSWEPT, FAILED, HANGS)
"""Of every subject."""


class Program(Protocol):
    """A process, as `subprocess.Popen` has it."""

    def poll(self) -> int | None:
        """Return its status, None while it runs."""

    def wait(self, timeout: float) -> int:
        """Wait for its end, and return its status."""

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal."""


class Subject(Protocol):
    """A command, and what must hold after it was killed."""

    faults: tuple[str, ...]
    """Names of what must not be found."""
    kills_between: int
    """How many kills follow each other before a run goes to its end."""

    def prepare(self, folder: Path) -> None:
        """Make what the command needs in an empty folder."""

    def start(self, chance: random.Random, errors: IO[str]) -> Program:
        """Start the command. What earlier ones left may be removed first, so that some find nothing. errors: for stderr."""

    def check_kill(self, found: Counter[str]) -> None:
        """Count what a killed run left, and each fault."""

    def check_end(self, found: Counter[str]) -> None:
        """Count each fault of what a run left that was not killed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Kills(JsonRecord):
    """The kills of one subject so far."""

    subject: str
    command: str
    date: str
    """Of the last kill, ISO 8601, UTC."""
    seed: int
    seconds: float = 0.0
    killed: dict[str, int] = field(default_factory=dict)
    """Signal => runs that it ended, or told to end."""
    found: dict[str, int] = field(default_factory=dict)
    """Name => how often it was seen, faults included."""
    faults: dict[str, int] = field(default_factory=dict)
    """Every kind of fault, most of them seen never."""


class Trials:
    """Runs of one subject in a folder."""

    def __init__(self, subject: Subject, folder: Path, chance: random.Random) -> None:
        self.subject, self.folder, self.chance = subject, folder, chance
        self.killed, self.found, self.longest = Counter[str](), Counter[str](), 0.0
        subject.prepare(folder)
        self.run_to_end()
        self.run_to_end()

    def run_to_end(self) -> None:
        """Run without a kill. It succeeds, and removes what killed runs left, if that is old enough."""
        age_orphans(self.folder)
        start = time.perf_counter()
        with TemporaryFile("w+") as errors:
            status = self.subject.start(self.chance, errors).wait(RUN_SECONDS)
            if status:
                self.found[FAILED] += 1
                errors.seek(0)
                print(f"{FAILED}: {errors.read()[-2000:]}", flush=True)
        # a run that goes on where a killed one stopped is shorter than a whole one
        self.longest = max(time.perf_counter() - start, SHRINKS * self.longest)
        self.found["runs to the end"] += 1
        self._check_end()

    def _check_end(self) -> None:
        left = [path for path in orphans(self.folder) if path.stat().st_mtime < time.time() - 3600]
        self.found[UNSWEPT] += len(left)
        for path in left:
            print(f"{UNSWEPT}: {path}", flush=True)
        self.subject.check_end(self.found)

    def kill(self) -> None:
        """Run, and send a signal at some time."""
        number = self.chance.choices(list(SIGNALS), list(SIGNALS.values()))[0]
        with Path(os.devnull).open("w") as nowhere:
            process = self.subject.start(self.chance, nowhere)
        time.sleep(self.chance.uniform(0.05, 1.0) * self.longest)
        if process.poll() is not None:
            self.found["ended before the signal"] += 1
            self._check_end()
            return
        process.send_signal(number)
        try:
            status = process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self.found[HANGS] += 1
            process.send_signal(signal.SIGKILL)
            status = process.wait(PATIENCE_SECONDS)
        if status == 0:
            self.found["ended in spite of the signal"] += 1
        else:
            self.killed[number.name] += 1
        self.subject.check_kill(self.found)

    def kill_some(self) -> None:
        """Kill some runs, then run to the end."""
        for _ in range(self.subject.kills_between):
            self.kill()
        self.found[ORPHANS] += len(orphans(self.folder))
        self.run_to_end()


def kill_often(subject: Subject, before: Kills, kills: int, path: Path) -> Kills:
    """Kill until there are so many kills with those of an earlier call. Write the record after every few."""
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a shell's background jobs, and what they start, would ignore it
    record, start = before, time.perf_counter()
    chance = random.Random(f"{before.seed} {sum(before.killed.values())}")  # noqa: S311 - no secret
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        trials = Trials(subject, Path(folder), chance)
        while sum(record.killed.values()) < kills:
            trials.kill_some()
            found = Counter(before.found) + trials.found
            record = Kills(
                subject=before.subject,
                command=before.command,
                date=before.date,
                seed=before.seed,
                seconds=round(before.seconds + time.perf_counter() - start, 1),
                killed=dict(Counter(before.killed) + trials.killed),
                found=dict(found),
                faults={name: found[name] for name in (*subject.faults, *FAULTS)},
            )
            record.write(path)
    return record
