"""Publish a benchmark as three files with one stem: the record (.json), the page (.md) and, if there is one, the plot (.png).

The stem is KIND_SUBJECT_DATE, for example `accuracy_lidc-nodule_2026-11-26`. Every page states its date, command, machine, data
and seed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.figure import Figure as Picture

from benchmarks.common.json_record import JsonRecord
from benchmarks.common.machine import Machine

RESULTS = Path(__file__).parents[1] / "results"
DPI = 120
mpl.use("agg")


@dataclass(frozen=True, kw_only=True, slots=True)
class Record(JsonRecord):
    """How a run was made; each benchmark adds its figures."""

    date: str
    """ISO 8601, UTC."""
    command: str
    machine: Machine
    seconds: float | None = None
    """Wall time; None: not recorded."""


@dataclass(frozen=True, slots=True)
class Plot:
    """The picture of a page."""

    caption: str
    paint: Callable[[], Picture]


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and its paragraphs, in Markdown; a table is a paragraph."""

    title: str
    paragraphs: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """One result as readers see it."""

    kind: str
    """First part of the stem."""
    subject: str
    """Model, processor or GPU: the second part of the stem."""
    title: str
    record: Record
    data: str
    """Images, patients and split."""
    seed: int
    facts: Mapping[str, str] = field(default_factory=dict)
    """More lines for the head of the page: name => text."""
    warnings: tuple[str, ...] = ()
    """Reasons not to quote the figures."""
    introduction: tuple[str, ...] = ()
    plot: Plot | None = None
    sections: tuple[Section, ...]

    @property
    def stem(self) -> str:
        """File name without suffix."""
        subject = re.sub(r"[^a-z0-9]+", "-", self.subject.lower()).strip("-")
        return f"{self.kind}_{subject}_{self.record.date}"

    def markdown(self) -> str:
        """Return the page as Markdown."""
        blocks = [
            f"# {self.title}: {self.subject}, {self.record.date}",
            *(f"> **{warning}**" for warning in self.warnings),
            "\n".join(f"- {name}: {text}" for name, text in self._head().items()),
            *self.introduction,
            *([f"![{self.plot.caption}]({self.stem}.png)"] if self.plot is not None else []),
        ]
        for section in self.sections:
            blocks += [f"## {section.title}", *section.paragraphs]
        return "\n\n".join(block.strip() for block in blocks) + "\n"

    def _head(self) -> dict[str, str]:
        seconds = self.record.seconds
        return {
            "Date": self.record.date + ("" if seconds is None else f", {seconds / 60:.0f} minutes"),
            "Command": f"`{self.record.command}`",
            "Machine": str(self.record.machine),
            "Data": self.data,
            "Seed": str(self.seed),
            **self.facts,
        }

    def render(self, folder: Path) -> Path:
        """Write page and plot, if there is one; return the path of the page."""
        path = folder / f"{self.stem}.md"
        path.write_text(self.markdown(), encoding="utf-8")
        if self.plot is not None:
            picture = self.plot.paint()
            picture.savefig(path.with_suffix(".png"), dpi=DPI)
            plt.close(picture)
        return path

    def write(self, folder: Path) -> Path:
        """Write record, page and plot into a folder, which is made if absent; return the path of the page."""
        folder.mkdir(parents=True, exist_ok=True)
        self.record.write(folder / f"{self.stem}.json")
        return self.render(folder)
