"""Import inference libraries without their telemetry: software that reads patient images must not report anything.

onnxruntime   wheels from 1.29 on send Microsoft an event per session, model and error, with a device identifier kept in the
              user's cache folder, unless an environment variable is set during the import
openvino      `import openvino` sends Google an event, with an identifier kept in ~/intel, unless its package openvino_telemetry
              is missing; openvino then uses a stub

If the caller imported one of them first, its setting stays.
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
    """Switch both off inside the block, and restore the process afterwards."""
    before, hidden = os.environ.get(SWITCH), REPORTER not in sys.modules
    os.environ[SWITCH] = "1"
    if hidden:
        sys.modules[REPORTER] = None  # type: ignore[assignment]  # makes the import fail
    try:
        yield
    finally:
        if hidden:
            del sys.modules[REPORTER]
        if before is None:
            del os.environ[SWITCH]
        else:
            os.environ[SWITCH] = before
