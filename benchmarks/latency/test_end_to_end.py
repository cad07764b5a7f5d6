"""Grid cells of the whole call of `Segmenter`, from pixels to masks and maps in the image's own grid."""

from __future__ import annotations

from benchmarks.latency.conftest import Measure
from benchmarks.latency.grid import Setup
from medseg_runtime.inference.segmenter import Segmenter


def test_end_to_end(measure: Measure, setup: Setup, segmenter: Segmenter, samples: int, steps: int) -> None:
    """One warm call of the segmenter."""
    image = setup.subject.picture()
    measure(
        "end to end",
        lambda: segmenter(image, samples=samples, steps=steps, seed=0),
        samples=samples,
        steps=steps,
        multiplications=setup.subject.of_a_run(samples, steps),
    )
