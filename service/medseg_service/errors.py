"""The errors of the services, in the tree of `medseg_runtime.errors`.

MedsegError
├── ConfigurationError    a configuration file cannot be used      (ValueError)
├── RemoteError           another system did not do what it was asked for (OSError)
└── QueueFullError        there is no room for another job         (RuntimeError)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from medseg_runtime.errors import MedsegError


class ConfigurationError(MedsegError, ValueError):
    """A configuration file cannot be read, or a value in it cannot be used."""


def check_all(checks: Iterable[Callable[[], object]]) -> None:
    """Run all checks, and name all that is wrong at once.

    Raises:
        ConfigurationError: of several faults, each with its remedy.
        MedsegError: the only fault.
    """
    found: list[MedsegError] = []
    for check in checks:
        try:
            check()
        except MedsegError as error:
            found.append(error)
    if len(found) == 1:
        raise found[0]
    if found:
        *others, last = found
        raise ConfigurationError("\n".join([*map(str, others), last.problem]), last.remedy) from last


class RemoteError(MedsegError, OSError):
    """An archive or a modality cannot be reached, or refused what it was asked for."""


class QueueFullError(MedsegError, RuntimeError):
    """As many jobs are open as are allowed."""
