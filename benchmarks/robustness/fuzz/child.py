"""Fuzz one target in this process. `campaign` starts it, and starts it again where an input ended it.

python -m benchmarks.robustness.fuzz.child TARGET --folder FOLDER --runs 1000

    FOLDER/corpus      inputs that reached something new
    FOLDER/findings    inputs that did something else than give a result or an error of ours, each with its traceback
    FOLDER/counts      how many were read, and how many were refused

An input ends the process by a signal, by more than `HANG_SECONDS`, or by more memory than `MOST_MIB`. libFuzzer then keeps it in findings/.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import resource
import sys
import tempfile
import time
import traceback
import warnings
from contextlib import ExitStack, suppress
from pathlib import Path
from random import Random

import atheris

from benchmarks.robustness.fuzz.counts import CountsFile
from benchmarks.robustness.fuzz.seeds import MARK
from benchmarks.robustness.fuzz.targets import TARGETS, Read, Target

SLOW_SECONDS = 10.0
"""Of processor time: the machine may be busy."""
HANG_SECONDS = 120
MOST_MIB = 3072
GROWTH_MIB = 1024
"""By which one input may raise the highest memory of the process."""
IN_MEMORY = Path("/dev/shm")  # noqa: S108 - the file system is meant; the name in it is random


class Judge:
    """Give inputs to a reader and keep those that end in anything but a result or an error of ours."""

    def __init__(self, read: Read, folder: Path) -> None:
        self._read, self._findings = read, folder / "findings"
        self._findings.mkdir(exist_ok=True)
        self._file = CountsFile(folder / "counts")
        self._highest = _peak_mib()

    def __call__(self, content: bytes) -> None:
        """Judge one input."""
        from medseg_runtime.errors import MedsegError

        start, counts = time.process_time(), self._file.counts
        try:
            self._read(content)
            counts.read += 1
        except MedsegError as error:
            counts.refused += 1
            if problem := _unfit(error.problem, error.remedy):
                self._keep(content, problem, problem)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - some libraries raise BaseException
            self._keep(content, _place(error), traceback.format_exc())
        seconds = time.process_time() - start
        if seconds > SLOW_SECONDS:
            self._keep(content, "slow", f"{seconds:.1f} s of processor time")
        if (peak := _peak_mib()) > self._highest + GROWTH_MIB:
            self._keep(content, "memory", f"{self._highest} MiB before, {peak} MiB after")
            self._highest = peak
        counts.longest_ms = max(counts.longest_ms, round(1000 * seconds))
        self._file.write()
        if said := _said():
            self._keep(content, "printed", said)

    def _keep(self, content: bytes, kind: str, why: str) -> None:
        """Keep the first input of a kind."""
        name = hashlib.sha256(kind.encode()).hexdigest()[:16]
        if not (self._findings / f"{name}.txt").exists():
            (self._findings / f"{name}.bin").write_bytes(content)
            (self._findings / f"{name}.txt").write_text(f"{kind}\n{why}\n", errors="backslashreplace")


def _unfit(problem: str, remedy: str) -> str:
    """Return what is wrong with a message."""
    if not remedy.endswith((".", "...")):
        return f"a remedy without its end: {remedy[-60:]}"
    if MARK in problem + remedy:
        return f"a patient's name in {problem[:40]}"
    return "" if (problem + remedy).isprintable() else "characters that cannot be printed"


def _place(error: BaseException) -> str:
    """Return type of an error, and where it was raised: the last line of ours."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "medseg_" in frame.filename] or frames
    return f"{type(error).__name__} at {Path(ours[-1].filename).name}:{ours[-1].lineno}"


def _peak_mib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def _said() -> str:
    """Return what was printed since the last call, and forget it."""
    assert isinstance(sys.stdout, io.StringIO)
    said = sys.stdout.getvalue()
    if said:
        sys.stdout.seek(0)
        sys.stdout.truncate()
    return said


def main() -> None:
    """Fuzz; libFuzzer prints to stderr and ends the process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--runs", type=int, required=True)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    target, folder = TARGETS[given.target], given.folder.absolute()
    with ExitStack() as stack:
        stack.enter_context(atheris.instrument_imports(include=list(target.guided_by), enable_loader_override=False))
        working = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=IN_MEMORY if IN_MEMORY.is_dir() else None)))
        os.chdir(working)
        _write_seeds(target, folder / "corpus")
        (working / "input").mkdir()
        judge = Judge(target.reads(working / "input"), folder)
        warnings.simplefilter("error")
        sys.stdout = io.StringIO()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        for path in (folder / "corpus").iterdir():  # what is imported late is instrumented before libFuzzer counts
            judge(path.read_bytes())
        options = {
            "runs": given.runs, "seed": given.seed, "max_len": target.largest, "len_control": 0, "timeout": HANG_SECONDS,
            "rss_limit_mb": MOST_MIB, "mutate_depth": 1, "print_final_stats": 1, "artifact_prefix": f"{folder / 'findings'}/",
        }  # fmt: skip
        arguments = [sys.argv[0], *(f"-{name}={value}" for name, value in options.items()), str(folder / "corpus")]
        atheris.Setup(arguments, judge, custom_mutator=_mutator(target), internal_libfuzzer=True)
        atheris.Fuzz()


def _write_seeds(target: Target, corpus: Path) -> None:
    corpus.mkdir(parents=True, exist_ok=True)
    for content in target.seeds():
        (corpus / hashlib.sha256(content).hexdigest()).write_bytes(content)


def _mutator(target: Target):  # type: ignore[no-untyped-def]  # noqa: ANN202 - libFuzzer's signature
    def mutate(content: bytes, largest: int, seed: int) -> bytes:
        chance = Random(seed)  # noqa: S311 - no secret
        if chance.random() < 0.6:
            with suppress(ValueError, RecursionError):  # no longer of that format
                return target.change(content, chance)[:largest]
        return bytes(atheris.Mutate(content, largest))

    return mutate


if __name__ == "__main__":
    main()
