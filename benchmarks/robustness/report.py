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
    """Parts that were measured; each has its own date and command."""

    kills: tuple[Kills, ...]
    faults: tuple[Faults, ...]
    stream: Stream


def gather(parts: Path, command: str) -> Report:
    """Put the records of a folder together.

    Raises:
        OSError: a part has not been measured.
    """
    kills = tuple(Kills.read(parts / f"kills-{subject}.json") for subject in SUBJECTS)
    faults = tuple(Faults.read(parts / f"faults-{kind}.json") for kind in FAULTS)
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
