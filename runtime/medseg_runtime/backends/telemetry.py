"""Engines are imported without their telemetry: software that reads images of patients reports to nobody.

onnxruntime   from 1.29 on its wheels send Microsoft an event per session, model and error, under a device identifier that they
              keep in the user's cache folder, unless an environment variable is set while it is imported
openvino      `import openvino` sends Google an event, under an identifier that it keeps in ~/intel, unless its package
              openvino_telemetry is missing; a stub then takes its place

Who has imported one of them before us has decided for himself, and nothing is changed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

SWITCH = "ORT_DISABLE_TELEMETRY"
REPORTER = "openvino_telemetry"


@contextmanager
def no_telemetry() -> Iterator[None]:
    """Switch both off for an import, and leave the process as it was."""
    before, hidden = os.environ.get(SWITCH), REPORTER not in sys.modules
    os.environ[SWITCH] = "1"
    if hidden:
        sys.modules[REPORTER] = None  # type: ignore[assignment]  # Python's way to say that there is no such module
    try:
        yield
    finally:
        if hidden:
            del sys.modules[REPORTER]
        if before is None:
            del os.environ[SWITCH]
        else:
            os.environ[SWITCH] = before
