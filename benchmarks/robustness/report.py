"""The record of kills, failing calls and the long stream together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks.common.machine import inspect_machine
from benchmarks.common.page import Record
from benchmarks.common.script import today
from benchmarks.robustness.faults import FAULTS, Faults
from benchmarks.robustness.kills.subjects import SUBJECTS
from benchmarks.robustness.kills.trials import Kills
from benchmarks.robustness.stream import Stream


@dataclass(frozen=True, kw_only=True, slots=True)
class Report(Record):
    """The parts that were measured; each has its own date and command."""

    kills: tuple[Kills, ...]
    faults: tuple[Faults, ...]
    stream: Stream


def gather(parts: Path, command: str) -> Report:
    """Put the records of a folder together. Subjects and kinds that were not tried are left out.

    Raises:
        OSError: there is no stream.
    """
    kills = tuple(Kills.read(path) for subject in SUBJECTS if (path := parts / f"kills-{subject}.json").exists())
    faults = tuple(Faults.read(path) for kind in FAULTS if (path := parts / f"faults-{kind}.json").exists())
    stream = Stream.read(parts / "stream.json")
    seconds = sum(part.seconds for part in kills) + sum(part.seconds for part in faults) + stream.seconds
    return Report(
        date=today(),
        command=command,
        machine=inspect_machine(),
        seconds=seconds,
        kills=kills,
        faults=faults,
        stream=stream,
    )
