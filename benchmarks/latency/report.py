"""Everything a run measured, as one JSON file: what the page is made of, and what others can compute with."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path

from benchmarks.json_record import JsonRecord
from benchmarks.latency.agreement import Agreement
from benchmarks.latency.contest import Contest
from benchmarks.latency.folder import FolderRun
from benchmarks.latency.grid import Cell
from benchmarks.latency.machine import BUSY_SHARE, Machine
from benchmarks.latency.memory import Memory
from benchmarks.latency.peak import Peak
from benchmarks.latency.starts import Starts
from benchmarks.latency.subject import Subject


@dataclass(frozen=True, kw_only=True, slots=True)
class Report(JsonRecord):
    """One run."""

    date: str
    command: str
    plan: str
    seconds: float
    machine: Machine
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
    taken_by_others: dict[str, float]
    """Part of the run => share of the machine's processor time that others took meanwhile."""

    @property
    def stem(self) -> str:
        """Name of its files, without the suffix."""
        processor = re.sub(r"[^a-z0-9]+", "-", self.machine.processor.lower()).strip("-")
        return f"latency_{processor}-{self.machine.cores}-cores_{self.date}"

    @property
    def shipped(self) -> Subject:
        """The bundle of the contest."""
        return self.subjects[0]

    @property
    def disturbed(self) -> dict[str, float]:
        """Parts during which others took more of the machine than a measurement bears."""
        everything = {"before the start": self.machine.taken_by_others} | self.taken_by_others
        return {part: share for part, share in everything.items() if share > BUSY_SHARE}

    def peak(self, precision: str, threads: int) -> Peak:
        """Return the peak that a figure is held against."""
        return next(peak for peak in self.peaks if (peak.precision, peak.threads) == (precision, threads))

    def write(self, path: Path) -> None:
        """Write the JSON; of a bundle's folder its name alone, for the rest of the path is this machine's business."""
        named = tuple(dataclasses.replace(subject, folder=subject.path.name) for subject in self.subjects)
        JsonRecord.write(dataclasses.replace(self, subjects=named), path)
