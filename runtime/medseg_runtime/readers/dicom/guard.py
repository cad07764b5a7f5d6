"""Keep errors, warnings and log lines of pydicom and highdicom inside the readers: they may quote a patient's data."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from typing import Any

from medseg_runtime.errors import ImageError, MedsegError
from medseg_runtime.readers.silence import warnings_muted

DAMAGED = "Export the image again from the archive it comes from."
EXTRA = "Run `pip install 'medseglatdiff[dicom]'`."


class _MuteThisThread(logging.Filter):
    """Drop log records of this thread only."""

    def __init__(self) -> None:
        super().__init__()
        self._thread = threading.get_ident()

    def filter(self, record: logging.LogRecord) -> bool:
        return record.thread != self._thread


@contextmanager
def silenced() -> Iterator[None]:
    """Drop warnings and log lines of pydicom and highdicom in this thread."""
    with warnings_muted(), ExitStack() as stack:
        mute = _MuteThisThread()
        # A filter applies to one logger and not to its children; highdicom has one logger per module.
        names = [name for name in logging.root.manager.loggerDict if name.partition(".")[0] in ("pydicom", "highdicom")]
        for name in {"pydicom", *names}:
            logger = logging.getLogger(name)
            logger.addFilter(mute)
            stack.callback(logger.removeFilter, mute)
        yield


@contextmanager
def reading() -> Iterator[None]:
    """Raise ImageError for any exception inside the block."""
    try:
        with silenced():
            yield
    except MedsegError:
        raise
    except MemoryError:
        raise ImageError("the DICOM image does not fit into memory", "Give a crop of it.") from None
    except Exception as error:  # noqa: BLE001 - many types; `from None` because their text may quote the data set
        raise ImageError(f"the DICOM file is damaged or cut short ({type(error).__name__})", DAMAGED) from None


def import_highdicom(purpose: str) -> Any:
    """Import highdicom, of the extra `dicom`.

    purpose: what needs it, as the beginning of a sentence.

    Raises:
        ImageError: it is not installed.
    """
    try:
        for module in ("highdicom.seg", "highdicom.sc"):
            import_module(module)
        return import_module("highdicom")
    except ImportError as error:
        raise ImageError(f"{purpose} needs highdicom, which is not installed", EXTRA) from error
