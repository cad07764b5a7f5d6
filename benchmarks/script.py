"""What the scripts of this folder have in common: errors of ours as one line, and the command that a page names."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from medseg_runtime.commands.program import complain
from medseg_runtime.errors import MedsegError


@contextmanager
def one_line_errors(program: str) -> Iterator[None]:
    """End the program where something is wrong that a person can mend, or Ctrl-C was pressed; without a traceback."""
    try:
        yield
    except MedsegError as error:
        complain(program, str(error))
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def command(program: str, parser: argparse.ArgumentParser, given: argparse.Namespace) -> str:
    """Return what a person types to run the same again, with a word in capitals for each path."""
    changed = {
        name: value for name, value in vars(given).items() if name != "out" and value != parser.get_default(name)
    }
    return program + "".join(f" --{name.replace('_', '-')} {_typed(name, value)}" for name, value in changed.items())


def _typed(name: str, value: object) -> str:
    if isinstance(value, Path):
        return name.upper()
    return " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
