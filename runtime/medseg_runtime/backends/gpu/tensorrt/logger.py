"""What TensorRT logs, which is all that it says of an error: its functions only return False, None or -1.

TensorRT keeps the first logger of a process and ignores every later one, so builder and runner share this one.
"""

from __future__ import annotations

from collections import deque
from functools import cache
from typing import Any

KEPT_ERRORS = 50
SHOWN_ERRORS = 4


@cache
def error_log(library: Any) -> Any:
    """Return the one logger of this process for a library.

    library: the module `tensorrt` or `tensorrt_rtx`. The logger has `take()` and `forget()`, and prints nothing.
    """

    class ErrorLog(library.ILogger):  # type: ignore[misc]  # the library is not there when types are checked
        """Keeps the latest errors."""

        def __init__(self) -> None:
            library.ILogger.__init__(self)  # pybind11 wants the base class called by name
            self._errors: deque[str] = deque(maxlen=KEPT_ERRORS)

        def log(self, severity: Any, message: str) -> None:
            """Called by the library, from any thread."""
            if severity in (library.ILogger.ERROR, library.ILogger.INTERNAL_ERROR):
                self._errors.append(" ".join(message.split()))

        def forget(self) -> None:
            """Drop what was logged before a call, so that it is not blamed on the call."""
            self._errors.clear()

        def take(self) -> str:
            """Return the last distinct errors in their order, as one line, and forget them."""
            latest = list(dict.fromkeys(self._errors))[-SHOWN_ERRORS:]
            self.forget()
            return "; ".join(latest) or "it logged no error"

    return ErrorLog()
