"""Run a typer app as a program; how all four commands end.

success                                       exit code 0
an error of ours, or a mistyped option        1, and one line on stderr that ends with the remedy
Ctrl-C                                        130, after the work in progress is finished; a second Ctrl-C exits at once
any other exception is a defect               its traceback
"""

from __future__ import annotations

import errno
import io
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

import typer

from medseg_runtime.errors import MedsegError, escaped
from medseg_runtime.machine.shortage import shortage

CLICK_EXCEPTION = typer.BadParameter.__mro__[2]
"""The base of all usage errors, in click or in the copy of click inside typer."""


def run_command(app: typer.Typer, program: str, *, extras: str) -> NoReturn:
    """Run a typer app and exit the process.

    extras: of our package, which install what the command imports.
    """
    _open_missing_streams()
    try:
        code = app(prog_name=program, standalone_mode=False)
    except MedsegError as error:
        complain(program, str(error))
        code = 1
    except ModuleNotFoundError as error:
        complain(program, f"{error.name} is not installed. Run `pip install 'medseglatdiff[{extras}]'`.")
        code = 1
    except typer.Abort:
        code = 130
    except (ImportError, MemoryError, RuntimeError, OSError) as error:
        reason = shortage(error)
        if getattr(error, "errno", None) == errno.ENOSPC:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the rest of the output is dropped
            reason = ("stdout is on a full disk", "Free some space, or redirect stdout elsewhere.")
        if reason is None:
            raise
        complain(program, ". ".join(reason))
        code = 1
    except Exception as error:
        if not isinstance(error, CLICK_EXCEPTION):
            raise
        problem = str(error.format_message()).rstrip(".?")  # type: ignore[attr-defined]  # click's
        complain(program, f"{problem}. Run `{program} --help` to see how it is used.")
        code = 1
    _exit_if_workers_run(code or 0)
    sys.exit(code or 0)


def _open_missing_streams() -> None:
    """Open the standard streams that the process was started without. Escape names that the terminal cannot show."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
            setattr(sys, name, os.fdopen(number, mode, closefd=False))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def exit_at_once(main: Callable[[], NoReturn]) -> NoReturn:
    """Run a program and exit without Python's clean-up, once its files are written.

    Python and the backends take 0.1 s to free memory that the system frees anyway.
    """
    try:
        main()
    except SystemExit as end:
        _exit(int(end.code or 0))


def _exit_if_workers_run(code: int) -> None:
    """Exit at once if a second Ctrl-C left worker threads in native code: an orderly exit would abort there."""
    if any(thread.name.startswith("medseg-") for thread in threading.enumerate()):
        _exit(code)


def _exit(code: int) -> NoReturn:
    with suppress(BrokenPipeError):  # the reader of stdout has gone
        sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def say(line: str, *, err: bool = False) -> None:
    """Print one line, with what a terminal would obey escaped: it may quote a file."""
    typer.echo(escaped(line), err=err)


def warn(program: str, message: str) -> None:
    """Print a warning as one line on stderr."""
    say(f"{program}: warning: {message}", err=True)


def complain(program: str, message: str) -> None:
    """Print an error as one line on stderr."""
    say(f"{program}: error: {' '.join(message.split())}", err=True)


@contextmanager
def silent_libraries() -> Iterator[None]:
    """Discard what C libraries, such as libtiff, print to file descriptor 2. For commands only.

    What Python writes to sys.stderr still arrives, from any thread.
    """
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    python = sys.stderr
    try:
        if isinstance(python, io.TextIOWrapper) and python is sys.__stderr__:  # not a replacement in memory
            python.flush()
            sys.stderr = os.fdopen(
                kept, "w", buffering=1, encoding=python.encoding, errors=python.errors, closefd=False
            )
        os.dup2(nowhere, 2)
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        sys.stderr = python
        os.close(kept)
        os.close(nowhere)
