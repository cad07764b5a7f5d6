"""The record of one latency run."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from benchmarks.common.machine import BUSY_SHARE
from benchmarks.common.page import Record
from benchmarks.latency.agreement import Agreement
from benchmarks.latency.contest import Contest
from benchmarks.latency.folder import FolderRun
from benchmarks.latency.grid import Cell
from benchmarks.latency.memory import Memory
from benchmarks.latency.peak import Peak
from benchmarks.latency.starts import Starts
from benchmarks.latency.subject import Subject


@dataclass(frozen=True, kw_only=True, slots=True)
class Report(Record):
    """One run."""

    plan: str
    subjects: tuple[Subject, ...]
    peaks: tuple[Peak, ...]
    """By precision and number of threads, for the grid."""
    contest: Contest
    cells: tuple[Cell, ...]
    starts: Starts
    memory: tuple[Memory, ...]
    agreement: tuple[Agreement, ...]
    """Empty without real images."""
    folder: FolderRun | None
    """None without real images."""
    taken_by_others: dict[str, float]
    """Part of the run => share of processor time that other processes took meanwhile."""

    @property
    def shipped(self) -> Subject:
        """The bundle of the contest."""
        return self.subjects[0]

    @property
    def disturbed(self) -> dict[str, float]:
        """Parts during which other processes took more than `BUSY_SHARE`."""
        everything = {"before the start": self.machine.taken_by_others} | self.taken_by_others
        return {part: share for part, share in everything.items() if share > BUSY_SHARE}

    def peak(self, precision: str, threads: int) -> Peak:
        """Return the peak that gives the floor of a grid cell."""
        return next(peak for peak in self.peaks if (peak.precision, peak.threads) == (precision, threads))

    def write(self, path: Path) -> None:
        """Write the JSON. Bundle folders are reduced to their names, so that the file holds no local path."""
        named = tuple(dataclasses.replace(subject, folder=subject.path.name) for subject in self.subjects)
        Record.write(dataclasses.replace(self, subjects=named), path)
