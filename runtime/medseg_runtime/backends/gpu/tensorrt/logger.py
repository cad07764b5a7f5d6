"""TensorRT's error log. Its functions return only False, None or -1; the reason is in the log.

TensorRT keeps the first logger of a process and ignores later ones, so builder and runner share this one.
"""

from __future__ import annotations

from collections import deque
from functools import cache
from typing import Any

KEPT_ERRORS = 50
SHOWN_ERRORS = 4


@cache
def error_log(library: Any) -> Any:
    """Return the logger of this process for a library.

    library: the module `tensorrt` or `tensorrt_rtx`. The logger has `take()` and `forget()`, and prints nothing.
    """

    class ErrorLog(library.ILogger):  # type: ignore[misc]  # the library is not there when types are checked
        """Keep the latest errors."""

        def __init__(self) -> None:
            library.ILogger.__init__(self)  # pybind11 needs the base class called by name
            self._errors: deque[str] = deque(maxlen=KEPT_ERRORS)

        def log(self, severity: Any, message: str) -> None:
            """Keep an error. The library calls this from any thread."""
            if severity in (library.ILogger.ERROR, library.ILogger.INTERNAL_ERROR):
                self._errors.append(" ".join(message.split()))

        def forget(self) -> None:
            """Drop earlier errors, so that they are not reported for the next call."""
            self._errors.clear()

        def take(self) -> str:
            """Return the last distinct errors as one line, oldest first, and forget them."""
            latest = list(dict.fromkeys(self._errors))[-SHOWN_ERRORS:]
            self.forget()
            return "; ".join(latest) or "it logged no error"

    return ErrorLog()
