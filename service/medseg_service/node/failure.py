"""What is said of a failure, in logs, records and dead letters: never a value of a DICOM header."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

from medseg_runtime.errors import MedsegError

REPORT = "Report this, with the place and the kind of image."


def place_of(error: BaseException) -> str:
    """Return the type of an exception and where it came from. Its text may quote a data set."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"


def reason_of(error: BaseException) -> dict[str, Any]:
    """Return a failure as a record: error, problem, remedy."""
    if isinstance(error, MedsegError):
        return {"error": type(error).__name__, "problem": error.problem, "remedy": error.remedy}
    return {"error": type(error).__name__, "problem": place_of(error), "remedy": REPORT}
