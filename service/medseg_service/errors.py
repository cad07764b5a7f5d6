"""The errors of the services, in the tree of `medseg_runtime.errors`.

MedsegError
├── ConfigurationError    a configuration file cannot be used      (ValueError)
├── RemoteError           another system did not do what it was asked for (OSError)
└── QueueFullError        there is no room for another job         (RuntimeError)
"""

from __future__ import annotations

from medseg_runtime.errors import MedsegError


class ConfigurationError(MedsegError, ValueError):
    """A configuration file cannot be read, or a value in it cannot be used."""


class RemoteError(MedsegError, OSError):
    """An archive or a modality cannot be reached, or refused what it was asked for."""


class QueueFullError(MedsegError, RuntimeError):
    """As many jobs are open as are allowed."""
