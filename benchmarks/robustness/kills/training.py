"""medseg-train fit under kills: the same command again trains to the end of an undisturbed run."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import IO, Any

from safetensors import SafetensorError, safe_open

from benchmarks.robustness.kills import small_fit
from benchmarks.robustness.kills.forked import Forked
from benchmarks.robustness.kills.trials import Program

HALF, LOG, OTHER_END = "half file", "log damaged or doubled", "other end than an undisturbed run"


class Training:
    """A small run, killed a few times, then trained to its end."""

    faults: tuple[str, ...] = (HALF, LOG, OTHER_END)
    kills_between = 5

    def prepare(self, folder: Path) -> None:
        """Write data, and train a run without a kill."""
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        self.data, self.run = folder / "data", folder / "run"
        small_fit.write_data(self.data)
        fit(self.data, folder / "undisturbed")
        self.expected = contents(folder / "undisturbed")
        self.runs = 0

    def start(self, chance: random.Random, errors: IO[str]) -> Program:
        """Start the training: it goes on, or begins after a run that ended."""
        del chance
        if self.runs % (self.kills_between + 1) == 2:  # two whole runs come first
            shutil.rmtree(self.run, ignore_errors=True)
        self.runs += 1
        return Forked(small_fit.main, arguments(self.data, self.run), errors)

    def check_kill(self, found: Counter[str]) -> None:
        """Read every file of the run."""
        try:
            files = contents(self.run)
        except (SafetensorError, ValueError) as error:
            print(f"{HALF}: {error}", flush=True)
            found[HALF] += 1
            return
        found["states saved"] += sum(name.startswith("state/") for name in files)
        found["weights saved"] += sum("/" not in name and name.endswith(".safetensors") for name in files)

    def check_end(self, found: Counter[str]) -> None:
        """Compare the run with an undisturbed one."""
        files = contents(self.run)
        steps = [(line["stage"], line["step"], "loss" in line) for line in files["metrics.jsonl"]]
        found[LOG] += len(steps) != len(set(steps))
        if files != self.expected:
            found[OTHER_END] += 1
            print(f"{OTHER_END}: {[name for name in files | self.expected if files.get(name) != self.expected.get(name)]}")  # fmt: skip


def fit(data: Path, run: Path) -> None:
    """Train the small run in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.robustness.kills.small_fit", *arguments(data, run)[1:]]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def arguments(data: Path, run: Path) -> list[str]:
    """Return the command line of a small training."""
    return ["medseg-train", "fit", "smallest", "--data", str(data), "--classes", "disc", "--out", str(run)]


def contents(run: Path) -> dict[str, Any]:
    """Return the content of each file of a run by its path, orphans left out: tensors as hashes, the log as records.

    Raises:
        SafetensorError, ValueError: a file is not whole.
    """
    paths = [path for path in run.rglob("*") if path.is_file() and not path.name.startswith(".")]
    return {path.relative_to(run).as_posix(): _content(path) for path in sorted(paths)}


def _content(path: Path) -> Any:
    if path.suffix == ".safetensors":
        with safe_open(path, "np") as file:  # the order of its metadata varies
            tensors = {name: file.get_tensor(name).tobytes() for name in file.keys()}  # noqa: SIM118 - no dict
            return file.metadata(), {name: hashlib.sha256(value).hexdigest() for name, value in tensors.items()}
    if path.suffix == ".jsonl":  # the last line may lack its end
        return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]
    if path.suffix == ".json":
        return json.loads(path.read_text(encoding="utf-8"))
    return hashlib.sha256(path.read_bytes()).hexdigest()
