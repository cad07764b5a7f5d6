"""medseg-infer under kills: results, audit file and cache."""

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
from stat import S_IMODE
from typing import IO, Any

import numpy as np
from PIL import Image
from pydicom.data import get_testdata_file

from benchmarks.robustness.kills.trials import Program
from medseg_runtime.commands.audit import PUBLISHING
from medseg_runtime.commands.audit_check import check_audit
from medseg_runtime.files import cache
from medseg_runtime.files.publish import PARTIAL, PRIVATE, REPLACED

SIDE = 96
OTHERS = 0o007
HALF, LOST, READABLE = "half result", "older result lost", "readable by others"
CHAIN, NO_LINE, CACHE = "audit chain broken", "result without an audit line", "cache unusable"


class Inference:
    """Runs with an audit file, that replace older results."""

    faults: tuple[str, ...] = (HALF, LOST, READABLE, CHAIN, NO_LINE, CACHE)
    kills_between = 10
    image = "images"
    options: tuple[str, ...] = ("--backend", "onnxruntime")

    def prepare(self, folder: Path) -> None:
        """Write two pictures and a DICOM file."""
        self.images, self.out, self.audit = folder / "images", folder / "out", folder / "audit.jsonl"
        self.images.mkdir()
        for seed in range(2):
            noise = np.random.default_rng(seed).integers(0, 255, (SIDE, SIDE), np.uint8)
            Image.fromarray(noise).save(self.images / f"{seed}.png")
        shutil.copy(str(get_testdata_file("CT_small.dcm", download=False)), self.images / "ct.dcm")
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
        self.there: set[str] = set()
        self.runs = 0

    def start(self, chance: random.Random, errors: IO[str]) -> Program:
        """Start a run; one of eleven finds no older result, and begins another audit file."""
        if self.runs % (self.kills_between + 1) == 5:
            for path in self.out.iterdir() if self.out.is_dir() else ():
                if not path.name.startswith(PARTIAL):
                    shutil.rmtree(path)
            self.audit.unlink(missing_ok=True)
            self.there = set()
        self.runs += 1
        program = [sys.executable, "-c", "from medseg_runtime.commands.infer import program; program()"]
        options = ["--samples", str(chance.randint(2, 3)), "--force", "--audit", str(self.audit), *self.options]
        return subprocess.Popen(
            [*program, *map(str, self.inputs()), *options], stdout=subprocess.DEVNULL, stderr=errors
        )

    def inputs(self) -> list[Path | str]:
        """Return images and result folder: here a folder of three images."""
        return [self.images, "--out", self.out]

    def check_kill(self, found: Counter[str]) -> None:
        """Look at all that a killed run left."""
        results = []
        for path in self.out.iterdir() if self.out.is_dir() else ():
            if path.name.startswith(PARTIAL):
                private = S_IMODE(path.stat().st_mode) == PRIVATE
                found[READABLE] += not private and _readable_by_others(path)
            elif path.name.startswith(REPLACED):
                found["older results set aside"] += 1
            else:
                results.append(path)
        found["whole results"] += sum(map(is_whole, results))
        found[HALF] += sum(not is_whole(path) for path in results)
        found[LOST] += len(self.there - {path.name for path in results})
        self.there = {path.name for path in results}
        self._check_audit(results, found)
        found[CACHE] += not cache_is_usable()

    check_end = check_kill

    def _check_audit(self, results: list[Path], found: Counter[str]) -> None:
        if self.audit.exists():
            found[CHAIN] += bool(check_audit(self.audit).broken)
        lines = self.audit.read_bytes().splitlines() if self.audit.exists() else []
        records = [json.loads(line) for line in lines]
        announced = {(record["run_id"], record["outputs"]["result.json"]) for record in records if record["event"] == PUBLISHING}  # fmt: skip
        found[NO_LINE] += sum(is_whole(path) and _identity(path) not in announced for path in results)


class DicomInference(Inference):
    """One DICOM file, with DICOM output."""

    def inputs(self) -> list[Path | str]:
        """Return the file and its result folder."""
        return [self.images / "ct.dcm", "--dicom-seg", "--out", self.out / "ct"]


class FirstInference(Inference):
    """One picture, and an empty cache half the time: backends are compared, and models compiled."""

    options = ()

    def start(self, chance: random.Random, errors: IO[str]) -> Program:
        """Empty the cache by chance, but for what killed runs left."""
        folder = cache.cache_folder()
        if folder is not None and chance.random() < 0.5:
            for path in folder.rglob("*"):
                if path.is_file() and not path.name.startswith(".partial-"):
                    path.unlink()
        return super().start(chance, errors)

    def inputs(self) -> list[Path | str]:
        """Return a picture and its result folder."""
        return [self.images / "0.png", "--out", self.out / "0"]


def is_whole(result: Path) -> bool:
    """Tell whether a result folder has the files that its result.json names, unchanged, and no others."""
    try:
        named: dict[str, str] = _record(result)["outputs"]
    except (OSError, ValueError, KeyError):
        return False
    files = {path.relative_to(result).as_posix(): path for path in result.rglob("*") if path.is_file()}
    del files["result.json"]
    return {name: _sha256(path) for name, path in files.items()} == named


def cache_is_usable() -> bool:
    """Tell whether the folder is trusted, and each file in it is whole."""
    names = [name for name in cache.stored() if not Path(name).name.startswith(".") and not name.endswith(".lock")]
    return cache.problem() is None and all(cache.load(name) is not None for name in names)


def _identity(result: Path) -> tuple[str, str]:
    return _record(result)["run"]["id"], _sha256(result / "result.json")


def _record(result: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((result / "result.json").read_text(encoding="utf-8"))
    return record


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _readable_by_others(folder: Path) -> bool:
    return any(S_IMODE(path.stat().st_mode) & OTHERS for path in folder.glob("dicom/*"))
