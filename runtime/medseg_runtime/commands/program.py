"""What the four commands have in common: how they end.

done                                          0
an error of ours, or a mistyped option        1, one line on stderr that ends with the remedy
Ctrl-C                                        130, when what is begun is finished; pressed again, at once
anything else is a defect                     its traceback
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

from medseg_runtime.errors import MedsegError

CLICK_EXCEPTION = typer.BadParameter.__mro__[2]
"""The base of all usage errors, in click or in the click that typer brings with it."""


def run_command(app: typer.Typer, program: str, *, extras: str) -> NoReturn:
    """Run a typer app as a program.

    extras: of our package, which bring what the command imports.
    """
    _mend_streams()
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
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left of it goes nowhere
        complain(program, "there is no room for what is printed. Make some, or print it elsewhere.")
        code = 1
    except Exception as error:
        if not isinstance(error, CLICK_EXCEPTION):
            raise
        problem = str(error.format_message()).rstrip(".?")  # type: ignore[attr-defined]  # click's
        complain(program, f"{problem}. Run `{program} --help` to see how it is used.")
        code = 1
    _leave_if_threads_compute(code or 0)
    sys.exit(code or 0)


def _mend_streams() -> None:
    """Give a process the streams that it was started without, and let it print any name on a terminal that cannot show it."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
            setattr(sys, name, os.fdopen(number, mode, closefd=False))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def leave_after(main: Callable[[], NoReturn]) -> NoReturn:
    """Run a program whose files are written when it returns, and end the process at once.

    Python and an engine take a tenth of a second to give back what the system takes from a dead process anyway.
    """
    try:
        main()
    except SystemExit as end:
        _leave(int(end.code or 0))


def _leave_if_threads_compute(code: int) -> None:
    """End the process at once where a second Ctrl-C did not let threads finish: in the midst of C++ they would abort its orderly end."""
    if any(thread.name.startswith("medseg-") for thread in threading.enumerate()):
        _leave(code)


def _leave(code: int) -> NoReturn:
    with suppress(BrokenPipeError):  # nobody reads what is left
        sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def complain(program: str, message: str) -> None:
    """Print one line on stderr."""
    typer.echo(f"{program}: error: {' '.join(message.split())}", err=True)


@contextmanager
def libraries_muted() -> Iterator[None]:
    """Let libraries in C, such as libtiff, write their own lines to stderr in vain; for a command, whose process is its own.

    What Python writes to sys.stderr still arrives, from any thread.
    """
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    python = sys.stderr
    try:
        if isinstance(python, io.TextIOWrapper) and python is sys.__stderr__:  # and not something in memory
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
