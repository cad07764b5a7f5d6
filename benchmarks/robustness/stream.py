"""Memory, descriptors and threads over a long stream of images.

python -m benchmarks.robustness.stream --images 20000
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.common.json_record import JsonRecord
from benchmarks.common.script import today
from medseg_runtime.inference.segmenter import Segmenter
from medseg_runtime.inference.workers import Outcome
from medseg_runtime.result.segmentation import Segmentation

FILES, SIDE = 40, 96
POINTS = 200
"""Of the curves."""
PROC = Path("/proc/self")
SETTLED = 0.1
"""Share of the stream after which memory must be flat."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stream(JsonRecord):
    """One stream; a tuple has a value for each point of the curves."""

    command: str
    date: str
    seconds: float
    samples: int
    errors: dict[str, int]
    """Type of error => images that ended in it."""
    images: tuple[int, ...]
    """Images so far."""
    resident_mib: tuple[float, ...]
    proportional_mib: tuple[float, ...]
    """Resident memory, with what is shared with other processes divided among them."""
    descriptors: tuple[int, ...]
    threads: tuple[int, ...]

    def mib_per_1000_images(self) -> float:
        """Return the slope of the resident memory once it has settled."""
        first = int(SETTLED * len(self.images))
        slope = np.polyfit(self.images[first:], self.resident_mib[first:], 1)[0]
        return round(1000 * float(slope), 3)


def main() -> None:
    """Stream images of several sizes and kinds, every tenth of them damaged."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--samples", type=int, default=2)
    parser.add_argument("--parts", type=Path, default=Path("robustness"), help="Folder of the record.")
    given = parser.parse_args()
    given.parts.mkdir(exist_ok=True)
    record = stream(given.images, given.samples)
    record.write(given.parts / "stream.json")
    sys.stdout.write(
        f"{json.dumps({'seconds': record.seconds, 'MiB per 1000 images': record.mib_per_1000_images()})}\n"
    )


def stream(count: int, samples: int) -> Stream:
    """Segment this many images in one stream, and look at the process from time to time."""
    start, errors = time.perf_counter(), Counter[str]()
    with tempfile.TemporaryDirectory() as folder, Segmenter.load(backend="onnxruntime", threads=1) as segmenter:
        files = write_images(Path(folder))
        outcomes = segmenter.stream((files[k % FILES] for k in range(count)), samples=samples)
        points = list(_points(outcomes, errors, max(count // POINTS, 1)))
    images, resident, proportional, descriptors, threads = zip(*points, strict=True)
    return Stream(
        command=f"python -m benchmarks.robustness.stream --images {count} --samples {samples}",
        date=today(),
        seconds=round(time.perf_counter() - start, 1),
        samples=samples,
        errors=dict(errors),
        images=images,
        resident_mib=resident,
        proportional_mib=proportional,
        descriptors=descriptors,
        threads=threads,
    )


def write_images(folder: Path) -> list[Path]:
    """Write PNG, JPEG and TIFF files of several sizes, gray and color; every tenth is cut off."""
    paths = []
    for k in range(FILES):
        side = SIDE + 16 * (k % 7)
        noise = np.random.default_rng(k).integers(0, 255, (side, side, 3)[: 2 + k % 2], np.uint8)
        path = folder / f"{k}.{('png', 'jpg', 'tif')[k % 3]}"
        Image.fromarray(noise).save(path)
        if k % 10 == 9:
            path.write_bytes(path.read_bytes()[: 1000 + k])
        paths.append(path)
    return paths


def _points(
    outcomes: Iterator[Outcome[Path, Segmentation]], errors: Counter[str], every: int
) -> Iterator[tuple[int, float, float, int, int]]:
    for number, outcome in enumerate(outcomes, start=1):
        if outcome.error is not None:
            errors[type(outcome.error).__name__] += 1
        if number % every == 0:
            status = _numbers(PROC / "status")
            descriptors = len(list((PROC / "fd").iterdir()))
            yield (
                number,
                _mib(status["VmRSS"]),
                _mib(_numbers(PROC / "smaps_rollup")["Pss"]),
                descriptors,
                status["Threads"],
            )


def _numbers(path: Path) -> dict[str, int]:
    """Return the lines `name: number` of a file in /proc."""
    words = [line.split() for line in path.read_text(encoding="ascii").splitlines()]
    return {first[:-1]: int(rest[0]) for first, *rest in words if first.endswith(":") and rest and rest[0].isdigit()}


def _mib(kibibytes: int) -> float:
    return round(kibibytes / 1024, 1)


if __name__ == "__main__":
    main()
