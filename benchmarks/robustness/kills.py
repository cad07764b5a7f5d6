"""Kill medseg-infer at random times: every result folder is the old one or the new one, whole.

python -m benchmarks.robustness.kills --kills 1000
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from stat import S_IMODE

import numpy as np
from PIL import Image
from pydicom.data import get_testdata_file

from medseg_runtime.files.publish import PARTIAL, PRIVATE

SIDE = 96
OTHERS = 0o007


def main() -> None:
    """Print one line of counts; exit 1 if any result is half, or may be read by others."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        found = kill_often(Path(name), given.kills, random.Random(given.seed))  # noqa: S311 - no secret
    sys.stdout.write(f"{json.dumps(found)}\n")
    sys.exit(bool(found["half results"] or found["readable by others"] or found["missing"]))


def kill_often(folder: Path, kills: int, chance: random.Random) -> Counter[str]:
    """Run and kill, check what is there after each kill, and count."""
    images, out, found = folder / "images", folder / "out", Counter[str]()
    _write_images(images)
    start = time.perf_counter()
    _command(images, out, samples=2).wait()
    longest = time.perf_counter() - start
    there = {path.name for path in out.iterdir()}
    for number in range(kills):
        if number % 10 == 0:  # also without older results
            shutil.rmtree(out, ignore_errors=True)
            there = set()
        process = _command(images, out, samples=chance.randint(2, 5))
        time.sleep(chance.uniform(0.1, 1.0) * longest)
        found["finished before" if process.poll() is not None else "killed"] += 1
        process.kill()
        process.wait()
        there = _check(out, there, found)
    found["seconds"] = round(time.perf_counter() - start)
    return found


def _write_images(folder: Path) -> None:
    folder.mkdir()
    for seed in range(2):
        noise = np.random.default_rng(seed).integers(0, 255, (SIDE, SIDE), np.uint8)
        Image.fromarray(noise).save(folder / f"{seed}.png")
    shutil.copy(str(get_testdata_file("CT_small.dcm", download=False)), folder / "ct.dcm")


def _command(images: Path, out: Path, *, samples: int) -> subprocess.Popen[bytes]:
    """Start a run on a folder with pictures, or on the DICOM file alone, with DICOM output."""
    program = [sys.executable, "-c", "from medseg_runtime.commands.infer import program; program()"]
    options = ["--samples", str(samples), "--backend", "onnxruntime", "--force", "--out"]
    inputs = [images, *options, out] if samples % 2 else [images / "ct.dcm", "--dicom-seg", *options, out / "ct"]
    return subprocess.Popen([*program, *map(str, inputs)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _check(out: Path, before: set[str], found: Counter[str]) -> set[str]:
    """Look at each folder that a killed run left; return the names of those that are results."""
    results = set()
    for path in out.iterdir() if out.is_dir() else ():
        if path.name.startswith(PARTIAL):
            found["hidden folders"] += 1
            found["readable by others"] += S_IMODE(path.stat().st_mode) != PRIVATE and _names_a_patient(path)
            shutil.rmtree(path)
        else:
            results.add(path.name)
            found["whole results" if is_whole(path) else "half results"] += 1
    found["missing"] += len(before - results)
    return results


def _names_a_patient(folder: Path) -> bool:
    return any(S_IMODE(path.stat().st_mode) & OTHERS for path in folder.glob("dicom/*"))


def is_whole(result: Path) -> bool:
    """Tell whether a result folder has the files that its result.json names, unchanged, and no others."""
    try:
        named: dict[str, str] = json.loads((result / "result.json").read_text(encoding="utf-8"))["outputs"]
    except (OSError, ValueError, KeyError):
        return False
    files = {path.relative_to(result).as_posix(): path for path in result.rglob("*") if path.is_file()}
    del files["result.json"]
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()} == named


if __name__ == "__main__":
    main()
