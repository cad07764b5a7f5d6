"""Measure the HTML report in headless Chromium: its size, opening it, and the time from a slider to the drawn frame.

python -m benchmarks.latency.report_page
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from medseg_runtime import Segmentation, Segmenter, SourceImage, read_image
from medseg_runtime.result.output_request import OutputRequest
from medseg_runtime.writers.folder import REPORT, write_result

IMAGE = Path(__file__).parents[2] / "examples" / "nodule-phantom.png"
CASES = ((1, 16), (1, 64), (30, 16))
"""Slices and samples."""
MOVE = """
([name, values]) => values.reduce((before, value) => before.then((times) => new Promise((done) => {
  const slider = document.getElementById(name), shown = document.getElementById(`${name}-value`).textContent;
  const start = performance.now();
  slider.value = value;
  slider.dispatchEvent(new Event("input"));
  const drawn = () => (document.getElementById(`${name}-value`).textContent === shown
    ? requestAnimationFrame(drawn)
    : requestAnimationFrame(() => setTimeout(() => done([...times, performance.now() - start]))));
  drawn();
})), Promise.resolve([]))
"""
"""Move a slider to some values. The time of each ends after the frame that shows it: a task after an animation frame."""


def main() -> None:
    """Print a line for each case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    given = parser.parse_args()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver, tempfile.TemporaryDirectory() as folder, Segmenter.load() as segmenter:
        browser = driver.chromium.launch(executable_path=given.chromium, args=["--no-sandbox"])
        for slices, samples in CASES:
            path = _report(segmenter, slices, samples, Path(folder) / f"{slices}-{samples}")
            record = {"slices": slices, "samples": samples, "bytes": path.stat().st_size} | _measured(
                browser, path, samples, slices
            )
            sys.stdout.write(f"{json.dumps(record)}\n")
        browser.close()


def _report(segmenter: Segmenter, slices: int, samples: int, out: Path) -> Path:
    image: SourceImage = read_image(IMAGE)
    results: Sequence[Segmentation] = [segmenter(image, samples=samples) for _ in range(slices)]
    write_result(out, results, OutputRequest(html=True))
    return out / REPORT


def _measured(browser: Any, path: Path, samples: int, slices: int) -> dict[str, float]:
    """Return times in milliseconds. On a busy machine, the fastest ones say what the page itself takes."""
    opened = []
    for _ in range(5):
        page = browser.new_page(viewport={"width": 1600, "height": 1000})
        start = time.perf_counter()
        page.goto(path.as_uri())
        page.wait_for_selector("body[data-ready]")
        opened.append(1e3 * (time.perf_counter() - start))
    figures = {"open, fastest": min(opened), "open, median": median(opened)}
    sliders = {"sample": samples, "least": samples} | ({"slice": slices - 1} if slices > 1 else {})
    for name, most in sliders.items():
        times = page.evaluate(MOVE, [name, [value for value in range(1, most + 1) if value != samples // 2]])
        figures |= {f"{name}, fastest": min(times), f"{name}, median": median(times), f"{name}, slowest": max(times)}
    return {name: round(value, 1) for name, value in figures.items()}


if __name__ == "__main__":
    main()
