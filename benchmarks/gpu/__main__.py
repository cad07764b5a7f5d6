"""Everything there is to measure on a GPU machine, in under ten minutes: correctness first, then timings, then a page.

python -m benchmarks.gpu                            # writes benchmarks/gpu.md
python -m benchmarks.gpu --device cpu --smoke       # shows without a GPU that it works; writes nothing
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch

from benchmarks.gpu.measure import Cell, measure, peak_teraflops
from benchmarks.gpu.page import Setting, page
from benchmarks.gpu.subjects import Subject
from benchmarks.gpu.ways import Way, engine_ways, reference, torch_ways
from benchmarks.latency.machine import installed
from medseg_runtime.errors import MedsegError

PAGE = Path(__file__).parents[1] / "gpu.md"
PACKAGES = ("medseglatdiff", "torch", "onnxruntime-gpu", "onnxruntime", "tensorrt", "cuda-bindings")
COMPILED_SAMPLES = (16,)
"""torch.compile takes half a minute for each number of samples."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured, and for how long."""

    preset: str
    sides: tuple[int, ...]
    samples: tuple[int, ...]
    steps: tuple[int, ...]
    seconds: float


FULL = Plan("fast", (128, 256), (1, 4, 16, 64), (1, 2, 4, 10), seconds=540.0)
SMOKE = Plan("tiny", (32,), (1, 2), (1, 2), seconds=120.0)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--smoke", action="store_true", help="two tiny sizes, and print the page instead of writing it")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        sys.exit("torch sees no GPU. Run this on a machine with one, or add `--device cpu --smoke`.")
    if arguments.device == "cpu" and not arguments.smoke:
        sys.exit("A page of GPU figures cannot be taken on a CPU. Add --smoke.")
    torch.backends.cudnn.benchmark = True  # torch at its best
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False  # float32 means float32
    start = time.monotonic()
    device, plan = torch.device(arguments.device), SMOKE if arguments.smoke else FULL
    cells = list(_cells(plan, device, lambda: time.monotonic() - start < plan.seconds))
    setting = Setting(
        date=datetime.now(UTC).date().isoformat(),
        command=" ".join(["python -m benchmarks.gpu", *sys.argv[1:]]),
        device=torch.cuda.get_device_name() if device.type == "cuda" else "a CPU, to try the program",
        versions={name: installed(name) for name in PACKAGES},
        peaks={precision: peak_teraflops(device, precision) for precision in ("float32", "float16")},
        seconds=time.monotonic() - start,
    )
    text = page(setting, cells)
    if arguments.smoke:
        print(text)
    else:
        PAGE.write_text(text, encoding="utf-8")


def _cells(plan: Plan, device: torch.device, still: Callable[[], bool]) -> Iterator[Cell]:
    """Measure every way at every size; what cannot be opened gives rows that say why."""
    with tempfile.TemporaryDirectory() as work:
        subjects = [Subject.of(plan.preset, side) for side in plan.sides]
        ways = {}
        for subject in subjects:
            bundle = subject.bundle(Path(work) / str(subject.side))
            openers = [*engine_ways(subject, bundle, device), *torch_ways(subject, device)]
            ways[subject.side] = (subject, reference(subject, device), openers)
        for number in range(len(openers)):  # every size of one way before the next: what comes last may miss the time
            for subject, exact, openers in ways.values():
                yield from _of_way(plan, subject, exact, *openers[number], still)


def _of_way(
    plan: Plan, subject: Subject, exact: Way, name: str, opener: Callable[[], Way], still: Callable[[], bool]
) -> Iterator[Cell]:
    sizes = [(n, s) for n in _samples(plan, name) for s in plan.steps]
    print(f"{name}, {subject.side} px", file=sys.stderr, flush=True)
    try:
        if not still():
            raise TimeoutError("out of time")
        way = opener()
    except (MedsegError, TimeoutError) as error:
        for samples, steps in sizes:
            yield Cell(
                way=name, precision="", side=subject.side, samples=samples, steps=steps, missing=f"not run: {error}"
            )
        return
    for samples, steps in sizes:
        yield _guarded(subject, way, exact, samples, steps, still)


def _guarded(subject: Subject, way: Way, exact: Way, samples: int, steps: int, still: Callable[[], bool]) -> Cell:
    """Measure one cell; a way that fails there costs its row, not the page."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)  # a CUDA graph that was given up is no row of CUDA graphs
            return measure(subject, way, exact, samples, steps, still)
    except (RuntimeError, RuntimeWarning) as error:
        missing = f"failed: {' '.join(str(error).split())[:200]}"
        return Cell(
            way=way.name,
            precision=way.precision,
            side=subject.side,
            samples=samples,
            steps=steps,
            missing=missing,
        )


def _samples(plan: Plan, name: str) -> Sequence[int]:
    return [n for n in plan.samples if n in COMPILED_SAMPLES] if name == "torch.compile" else plan.samples


if __name__ == "__main__":
    main()
