"""Options and fixtures of the grid: every test measures cells, and stores in `extra_info` which."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.latency.backends import available_backends
from benchmarks.latency.grid import Setup, Stage, setups, sizes
from benchmarks.latency.plan import PLANS, Plan
from benchmarks.latency.subject import Subject
from benchmarks.latency.timing import Run, milliseconds_of
from medseg_runtime.files.typed_json import typed
from medseg_runtime.inference.segmenter import Segmenter

CORES = len(os.sched_getaffinity(0))
MOST_ROUNDS = 1000
Measure = Callable[..., None]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options for plan and bundles."""
    parser.addoption("--plan", choices=list(PLANS), default="quick")
    parser.addoption("--subjects", type=Path, help="JSON of the bundles to measure, from python -m benchmarks.latency")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrise tests over setups, and over the N and S of each."""
    plan: Plan = PLANS[metafunc.config.getoption("--plan")]
    described = json.loads(metafunc.config.getoption("--subjects").read_text(encoding="utf-8"))
    subjects = [typed(Subject, entry, "subject") for entry in described]
    found = setups(subjects, available_backends(), CORES)
    pairs = {str(setup): sizes(plan, setup, CORES) for setup in found}
    if "steps" in metafunc.fixturenames:
        rows = [(setup, n, s) for setup in found for n, s in pairs[str(setup)]]
        metafunc.parametrize(("setup", "samples", "steps"), rows, ids=str)
    elif "samples" in metafunc.fixturenames:
        by_samples = [(setup, n) for setup in found for n in dict.fromkeys(n for n, _ in pairs[str(setup)])]
        metafunc.parametrize(("setup", "samples"), by_samples, ids=str)
    else:
        metafunc.parametrize("setup", found, ids=str)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort cells by setup, so that each setup is opened once."""
    items.sort(key=lambda item: str(_setup_of(item)))


def _setup_of(item: pytest.Item) -> Setup:
    assert isinstance(item, pytest.Function)
    setup = item.callspec.params["setup"]
    assert isinstance(setup, Setup)
    return setup


class Opened:
    """The open setup. Only one is open at a time, so that threads and memory of others do not interfere."""

    def __init__(self) -> None:
        self._name: str | None = None
        self._segmenter: Segmenter | None = None

    def __call__(self, setup: Setup) -> Segmenter:
        """Return the segmenter of a setup, opening it if it is not open."""
        if self._segmenter is None or self._name != str(setup):
            self.close()
            self._name, self._segmenter = str(setup), setup.backend.open(setup.subject.path, setup.threads)
        return self._segmenter

    def close(self) -> None:
        """Close the open setup."""
        if self._segmenter is not None:
            self._segmenter.backend.close()
        self._segmenter = None


@pytest.fixture(scope="session")
def opened() -> Iterator[Opened]:
    """Keep the open setup, and close it at the end."""
    keeper = Opened()
    yield keeper
    keeper.close()


@pytest.fixture
def segmenter(opened: Opened, setup: Setup) -> Segmenter:
    """Return the segmenter of this cell's setup."""
    return opened(setup)


@pytest.fixture
def measure(benchmark: BenchmarkFixture, setup: Setup, pytestconfig: pytest.Config) -> Measure:
    """Return a function that times a call for as long as the plan says, and stores the cell."""
    plan: Plan = PLANS[pytestconfig.getoption("--plan")]

    def measure(stage: Stage, run: Run, *, samples: int, steps: int, multiplications: int) -> None:
        run()  # allocates, and compiles where a backend does so for every size
        rounds = max(plan.least_rounds, round(1e3 * plan.cell_seconds / max(milliseconds_of(run), 1e-3)))
        benchmark.extra_info |= _facts(setup, stage, samples, steps, multiplications)
        timed: Any = benchmark  # its `pedantic` has no annotations
        timed.pedantic(run, rounds=min(rounds, MOST_ROUNDS))

    return measure


def _facts(setup: Setup, stage: Stage, samples: int, steps: int, multiplications: int) -> dict[str, Any]:
    """Return the fields of a `Cell` except its timing."""
    return dataclasses.asdict(setup.backend) | {
        "bundle": setup.subject.name,
        "threads": setup.threads,
        "stage": stage,
        "samples": samples,
        "steps": steps,
        "multiplications": multiplications,
    }
