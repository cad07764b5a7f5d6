"""Memory and descriptors over a long stream: a record and a curve.

python -m benchmarks.robustness.stream --images 20000 --out stream.png
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from medseg_runtime.inference.segmenter import Segmenter
from medseg_runtime.inference.workers import Outcome
from medseg_runtime.result.segmentation import Segmentation

FILES, SIDE = 40, 256
POINTS = 200
"""Of the curve."""
Point = tuple[int, float, int]
"""Images so far, resident memory in MiB, open descriptors."""


def main() -> None:
    """Stream images of several sizes and kinds, every tenth of them damaged."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--samples", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("stream.png"))
    given = parser.parse_args()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, Segmenter.load(backend="onnxruntime", threads=1) as segmenter:
        files = _write_images(Path(folder))
        images = (files[k % FILES] for k in range(given.images))
        points = list(_points(segmenter.stream(images, samples=given.samples), max(given.images // POINTS, 1)))
    _plot(points, given.out)
    settled = [memory for _, memory, _ in points[len(points) // 10 :]]
    record = {
        "images": given.images,
        "seconds": round(time.perf_counter() - start),
        "MiB after a tenth": settled[0],
        "MiB at the end": settled[-1],
        "MiB per 1000 images": round(float(np.polyfit(np.linspace(0, given.images * 0.9e-3, len(settled)), settled, 1)[0]), 3),
        "descriptors": sorted({descriptors for _, _, descriptors in points}),
    }  # fmt: skip
    sys.stdout.write(f"{json.dumps(record)}\n")


def _write_images(folder: Path) -> list[Path]:
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


def _points(outcomes: Iterator[Outcome[Path, Segmentation]], every: int) -> Iterator[Point]:
    for number, _ in enumerate(outcomes, start=1):
        if number % every == 0:
            status = Path("/proc/self/status").read_text(encoding="ascii")
            kibibytes = int(next(line for line in status.splitlines() if line.startswith("VmRSS:")).split()[1])
            yield number, round(kibibytes / 1024, 1), len(list(Path("/proc/self/fd").iterdir()))


def _plot(points: list[Point], out: Path) -> None:
    from matplotlib.figure import Figure

    images, memory, descriptors = zip(*points, strict=True)
    figure = Figure(figsize=(7, 3.5), layout="constrained")
    left = figure.subplots()
    left.plot(images, memory, color="tab:blue")
    left.set(xlabel="images", ylabel="resident memory (MiB)", ylim=(0, 1.2 * max(memory)))
    right = left.twinx()
    right.plot(images, descriptors, color="tab:orange")
    right.set(ylabel="open descriptors (orange)", ylim=(0, 1.2 * max(descriptors)))
    figure.savefig(out, dpi=120)


if __name__ == "__main__":
    main()
