"""Check and time the sampling loop on a GPU, in under ten minutes: correctness first, then timings, then a page in results/.

python -m benchmarks.gpu                            # on a machine with an NVIDIA GPU
python -m benchmarks.gpu --device cpu --smoke       # try the program without a GPU; prints the page
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.common.machine import inspect_machine, installed
from benchmarks.common.page import RESULTS
from benchmarks.common.script import one_line_errors, today
from benchmarks.gpu.measure import Cell, measure, peak_teraflops
from benchmarks.gpu.methods import Method, project_methods, reference, torch_methods
from benchmarks.gpu.page import page
from benchmarks.gpu.report import Report
from benchmarks.gpu.subjects import Subject
from medseg_runtime.errors import MedsegError

PROGRAM = "python -m benchmarks.gpu"
PACKAGES = ("medseglatdiff", "torch", "onnxruntime-gpu", "onnxruntime", "tensorrt", "cuda-bindings")
COMPILED_SAMPLES = (16,)
"""Numbers of samples for torch.compile, which takes half a minute for each."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured, and the time limit."""

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
    parser.add_argument(
        "--smoke", action="store_true", help="measure two tiny sizes and print the page instead of writing it"
    )
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    if given.device == "cuda" and not torch.cuda.is_available():
        sys.exit("torch finds no GPU. Run this on a machine with one, or add `--device cpu --smoke`.")
    if given.device == "cpu" and not given.smoke:
        sys.exit("GPU figures cannot be measured on a CPU. Add --smoke.")
    with one_line_errors(PROGRAM):
        found = page(run(SMOKE if given.smoke else FULL, torch.device(given.device), PROGRAM))
        print(found.markdown() if given.smoke else found.write(given.out))


def run(plan: Plan, device: torch.device, command: str) -> Report:
    """Measure every method at every size of a plan, until its time is up."""
    torch.backends.cudnn.benchmark = True  # torch's fastest setting
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False  # float32 without TF32
    machine, start = inspect_machine(), time.monotonic()
    cells = tuple(_cells(plan, device, lambda: time.monotonic() - start < plan.seconds))
    return Report(
        date=today(),
        command=command,
        machine=machine,
        seconds=time.monotonic() - start,
        device=torch.cuda.get_device_name() if device.type == "cuda" else "CPU, to try the program",
        versions={name: installed(name) for name in PACKAGES},
        peaks={precision: peak_teraflops(device, precision) for precision in ("float32", "float16")},
        cells=cells,
    )


def _cells(plan: Plan, device: torch.device, has_time: Callable[[], bool]) -> Iterator[Cell]:
    """Measure every method at every size. A method that cannot be opened gives cells with the reason."""
    with tempfile.TemporaryDirectory() as work:
        subjects = [Subject.of(plan.preset, side) for side in plan.sides]
        opened = []
        for subject in subjects:
            bundle = subject.bundle(Path(work) / str(subject.side))
            methods = [*project_methods(subject, bundle, device), *torch_methods(subject, device)]
            opened.append((subject, reference(subject, device), methods))
        for number in range(
            len(opened[0][2])
        ):  # all sizes of one method before the next: the last ones may run out of time
            for subject, exact, methods in opened:
                yield from _of_method(plan, subject, exact, *methods[number], has_time)


def _of_method(
    plan: Plan,
    subject: Subject,
    exact: Method,
    name: str,
    opener: Callable[[], Method],
    has_time: Callable[[], bool],
) -> Iterator[Cell]:
    sizes = [(n, s) for n in _samples(plan, name) for s in plan.steps]
    print(f"{name}, {subject.side} px", file=sys.stderr, flush=True)
    try:
        if not has_time():
            raise TimeoutError("out of time")
        method = opener()
    except (MedsegError, TimeoutError) as error:
        for samples, steps in sizes:
            reason = f"not run: {error}"
            yield Cell(method=name, precision="", side=subject.side, samples=samples, steps=steps, missing=reason)
        return
    for samples, steps in sizes:
        yield _guarded(subject, method, exact, samples, steps, has_time)


def _guarded(
    subject: Subject, method: Method, exact: Method, samples: int, steps: int, has_time: Callable[[], bool]
) -> Cell:
    """Measure one cell; a failure is stored in the cell and does not end the run."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)  # a fallback from CUDA graphs must not count as CUDA graphs
            return measure(subject, method, exact, samples, steps, has_time)
    except (RuntimeError, RuntimeWarning) as error:
        return Cell(
            method=method.name,
            precision=method.precision,
            side=subject.side,
            samples=samples,
            steps=steps,
            missing=f"failed: {' '.join(str(error).split())[:200]}",
        )


def _samples(plan: Plan, name: str) -> Sequence[int]:
    return [n for n in plan.samples if n in COMPILED_SAMPLES] if name == "torch.compile" else plan.samples


if __name__ == "__main__":
    main()
