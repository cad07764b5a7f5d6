"""Shared by all benchmark commands: one-line errors, today's date, and the command line as a page quotes it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from medseg_runtime.commands.program import complain
from medseg_runtime.errors import MedsegError

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data"
"""Default folder of the data set's archives, `lidc-*.zip`."""


@contextmanager
def one_line_errors(program: str) -> Iterator[None]:
    """Print an error of this project as one line and exit 1; exit 130 on Ctrl-C."""
    try:
        yield
    except MedsegError as error:
        complain(program, str(error))
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def today() -> str:
    """Return the date in UTC, ISO 8601."""
    return datetime.now(UTC).date().isoformat()


def command_line(program: str, parser: argparse.ArgumentParser, given: argparse.Namespace) -> str:
    """Return the command that repeats a run: the options that differ from their defaults, paths as words in capitals."""
    changed = {
        name: value for name, value in vars(given).items() if name != "out" and value != parser.get_default(name)
    }
    return program + "".join(f" --{name.replace('_', '-')}{_typed(name, value)}" for name, value in changed.items())


def _typed(name: str, value: object) -> str:
    """Return the value as it follows its option; nothing for a flag."""
    if value is True:
        return ""
    if isinstance(value, Path):
        return f" {name.upper()}"
    return " " + (" ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value))
