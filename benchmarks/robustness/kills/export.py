"""medseg-export under kills: the bundle is the older one or the new one, whole, and the next export succeeds."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import IO

from benchmarks.robustness.kills import small_export
from benchmarks.robustness.kills.forked import Forked
from benchmarks.robustness.kills.small_fit import write_data
from benchmarks.robustness.kills.training import fit
from benchmarks.robustness.kills.trials import Program
from medseg_export.bundle_writer import BUNDLE
from medseg_runtime.errors import MedsegError
from medseg_runtime.model.bundle import Bundle

HALF, LOST = "half bundle", "older bundle lost"


class Export:
    """A small run is exported again and again, and replaces its older bundle but for one time in eight."""

    faults: tuple[str, ...] = (HALF, LOST)
    kills_between = 7

    def prepare(self, folder: Path) -> None:
        """Train a run, and export it once."""
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        self.run, self.bundle = folder / "run", folder / "bundles" / "bundle"
        write_data(folder / "data")
        self.graphs = folder / "earlier"
        fit(folder / "data", self.run)
        program = [sys.executable, "-c", "from medseg_export.cli import main; main()"]
        command = [*program, "--ckpt", str(self.run), "--out", str(self.graphs)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        import_module("medseg_runtime.backends.onnxruntime_cpu")  # for all forks
        self.runs, self.there = 0, False

    def start(self, chance: random.Random, errors: IO[str]) -> Program:
        """Start the export."""
        del chance
        if self.runs % (self.kills_between + 1) == 4:
            shutil.rmtree(self.bundle, ignore_errors=True)
            self.there = False
        self.runs += 1
        options = ["--ckpt", str(self.run), "--out", str(self.bundle), "--force"]
        return Forked(small_export.main, ["medseg-export", str(self.graphs), *options], errors)

    def check_kill(self, found: Counter[str]) -> None:
        """Load the bundle, which checks every hash, and look for files that do not belong to it."""
        there = self.bundle.exists()
        found[LOST] += self.there and not there
        self.there = there
        if there:
            whole = _is_whole(self.bundle)
            found["whole bundles"] += whole
            found[HALF] += not whole

    check_end = check_kill


def _is_whole(folder: Path) -> bool:
    try:
        bundle = Bundle.load(folder)
    except MedsegError as error:
        print(f"{HALF}: {error}", flush=True)
        return False
    names = {path.name for path in folder.iterdir()}
    return {"README.md", *(graph.file for graph in bundle.manifest.graphs.values())} < names <= BUNDLE.content
