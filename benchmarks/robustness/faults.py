"""Let the k-th call fail, for every k: each run of medseg-infer gives a whole result, or one error line and nothing else.

Where a call fails after the result was published, there may be both.

python -m benchmarks.robustness.faults disk
python -m benchmarks.robustness.faults memory --every 5

disk          mkdir, open for writing, fsync, rename: no space left on device
descriptors   open, dup: too many open files
threads       Thread.start: can't start new thread
memory        a call of a function of ours: MemoryError
file_size     the k-th 512 bytes of a file cannot be written (RLIMIT_FSIZE)
"""

from __future__ import annotations

import argparse
import errno
import io
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from pydicom.data import get_testdata_file

from benchmarks.common.json_record import JsonRecord
from benchmarks.common.script import today
from benchmarks.robustness.kills.inference import is_whole
from medseg_runtime.commands import infer as infer_command

RIGHT = ("results", "errors", "result and error")
WRONG = ("half results", "something left", "tracebacks", "hangs")
HANG_SECONDS = 120
BLOCK = 512
ENTRY = ("program", "exit_at_once", "main", "run_command", "_open_missing_streams")
"""Functions that run before there is anybody to report an error."""
OURS = f"{os.sep}medseg_runtime{os.sep}"
Fault = Callable[[int, Callable[[], None]], None]
"""Make the k-th call fail from now on: (k, what to call when it does)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Faults(JsonRecord):
    """All runs of one kind of fault."""

    kind: str
    command: str
    date: str
    seconds: float
    outcomes: dict[str, int]
    """Outcome => runs, the wrong ones included."""


def main() -> None:
    """Print the record; exit 1 if a run ended in any other way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=FAULTS)
    parser.add_argument("--every", type=int, default=1, help="Of so many k, try one.")
    parser.add_argument("--most", type=int, default=1000, help="Runs at most.")
    parser.add_argument("--parts", type=Path, default=Path("robustness"), help="Folder of the record.")
    given = parser.parse_args()
    parts, start = given.parts.resolve(), time.perf_counter()
    parts.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        shutil.copy(str(get_testdata_file("CT_small.dcm", download=False)), "ct.dcm")
        _run(lambda _, fired: fired(), 0)  # fills the cache
        found = sweep(FAULTS[given.kind], given.every, given.most)
    record = Faults(
        kind=given.kind,
        command=f"python -m benchmarks.robustness.faults {given.kind}" + f" --every {given.every}" * (given.every > 1),
        date=today(),
        seconds=round(time.perf_counter() - start, 1),
        outcomes={outcome: found[outcome] for outcome in (*RIGHT, *WRONG)},
    )
    record.write(parts / f"faults-{given.kind}.json")
    sys.stdout.write(f"{json.dumps(record.outcomes)}\n")
    sys.exit(any(record.outcomes[outcome] for outcome in WRONG))


def sweep(fault: Fault, every: int, most: int) -> Counter[str]:
    """Run with the k-th call failing, for k = 1, 1 + every, ... until no call fails any more."""
    found = Counter[str]()
    for k in range(1, every * most + 1, every):
        shutil.rmtree("out", ignore_errors=True)
        said, status = _run(fault, k)
        if not Path("fired").exists():
            break
        outcome = _outcome(said, status)
        found[outcome] += 1
        if outcome in WRONG:
            sys.stderr.write(f"k = {k}: {outcome}: {said[-1500:]}\n")
    return found


def _outcome(said: str, status: int) -> str:
    results = list(Path("out").iterdir()) if Path("out").is_dir() else []
    if os.WIFSIGNALED(status):
        return "hangs"
    ignored = said.count("Exception ignored")  # in a finalizer: Python goes on
    if said.count("Traceback") > ignored or os.waitstatus_to_exitcode(status) not in (0, 1):
        return "tracebacks"
    if os.waitstatus_to_exitcode(status) == 0:
        return "results" if is_whole(Path("out")) else "half results"
    if said.count("medseg-infer: error: ") != 1 or (results and not is_whole(Path("out"))):
        return "something left"
    return "result and error" if results else "errors"


def _run(fault: Fault, k: int) -> tuple[str, int]:
    """Run the command in a fork, and return what it printed, and its status."""
    Path("fired").unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        try:
            _run_here(fault, k)
        except BaseException:  # noqa: BLE001 - nothing may return to the parent's code
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(70)
    signal.signal(signal.SIGALRM, lambda *_: os.kill(child, signal.SIGKILL))
    signal.alarm(HANG_SECONDS)
    _, status = os.waitpid(child, 0)
    signal.alarm(0)
    return Path("said").read_text(encoding="utf-8", errors="replace"), status


def _run_here(fault: Fault, k: int) -> None:
    descriptor = os.open("said", os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    make = os.mknod  # no call that fails
    sys.argv = ["medseg-infer", "ct.dcm", "--samples", "3", "--backend", "onnxruntime", "--dicom-seg", "--out", "out"]
    fault(k, lambda: make("fired"))
    infer_command.program()


def _failing(
    functions: list[tuple[Any, str]], error: Exception, applies: Callable[..., bool] = lambda *_, **__: True
) -> Fault:
    """Return a fault that raises an error in the k-th of all calls of these functions."""

    def install(k: int, fired: Callable[[], None]) -> None:
        calls = [0]

        def wrapped(original: Callable[..., Any]) -> Callable[..., Any]:
            def call(*args: Any, **options: Any) -> Any:
                if applies(*args, **options):
                    calls[0] += 1
                    if calls[0] == k:
                        fired()
                        raise error
                return original(*args, **options)

            return call

        for owner, name in functions:
            setattr(owner, name, wrapped(getattr(owner, name)))

    return install


def _writes(*args: Any, **options: Any) -> bool:
    """Tell whether a call is not one that opens for reading."""
    mode = options.get("mode", args[1] if len(args) > 1 else "r")
    return not (isinstance(mode, str) and set(mode) <= set("rbt")) if len(args) > 1 or "mode" in options else True


def _memory(k: int, fired: Callable[[], None]) -> None:
    calls = [0]

    def trace(frame: FrameType, _event: str, _argument: object) -> None:
        if OURS in frame.f_code.co_filename and frame.f_code.co_name not in ENTRY:
            calls[0] += 1
            if calls[0] == k:
                fired()
                raise MemoryError

    threading.settrace(trace)
    sys.settrace(trace)


def _file_size(k: int, fired: Callable[[], None]) -> None:
    if k * BLOCK < 1 << 16:  # the largest file of the result
        fired()
    resource.setrlimit(resource.RLIMIT_FSIZE, (k * BLOCK, k * BLOCK))


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
TOO_MANY = OSError(errno.EMFILE, os.strerror(errno.EMFILE))
FAULTS: dict[str, Fault] = {
    "disk": _failing([(os, "mkdir"), (os, "fsync"), (os, "rename"), (os, "replace"), (io, "open")], FULL, _writes),
    "descriptors": _failing([(os, "open"), (os, "dup"), (io, "open")], TOO_MANY),
    "threads": _failing([(threading.Thread, "start")], RuntimeError("can't start new thread")),
    "memory": _memory,
    "file_size": _file_size,
}

if __name__ == "__main__":
    main()
