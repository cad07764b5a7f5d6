"""What a campaign records."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks.common.json_record import JsonRecord
from benchmarks.common.page import Record

NAME = "outcome.json"


@dataclass(frozen=True, slots=True)
class Point:
    """Of a curve of coverage."""

    executions: int
    edges: int
    """Branches of our packages that were taken."""
    features: int
    """Branches, and how often each was taken, in powers of two."""


@dataclass(frozen=True, slots=True)
class Finding:
    """An input that did something else than give a result or an error of ours."""

    file: str
    what: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome(JsonRecord):
    """What became of the inputs of one target."""

    runs: int = 0
    accepted: int = 0
    """Inputs that gave a result."""
    refused: int = 0
    """Inputs that gave one of our errors."""
    seconds: float = 0.0
    """Wall time."""
    longest_ms: int = 0
    """Most processor time of one input."""
    processes: int = 0
    """How often a process was started: more than once if an input ended it."""
    curve: tuple[Point, ...] = ()
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class FuzzReport(Record):
    """One campaign."""

    targets: dict[str, Outcome]

    @property
    def runs(self) -> int:
        """Inputs of all targets."""
        return sum(outcome.runs for outcome in self.targets.values())

    @property
    def findings(self) -> int:
        """Of all targets."""
        return sum(len(outcome.findings) for outcome in self.targets.values())


def write_outcome(folder: Path, outcome: Outcome) -> None:
    """Keep the outcome of a target beside its inputs."""
    outcome.write(folder / NAME)


def outcome_in(folder: Path) -> Outcome | None:
    """Return the outcome of a target; None if it was not fuzzed."""
    return Outcome.read(folder / NAME) if (folder / NAME).exists() else None
