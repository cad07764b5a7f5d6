"""Options and fixtures of the grid: every test is a cell or several, and says in `extra_info` which."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.latency.engines import engines
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
    """Say which plan, and which bundles."""
    parser.addoption("--plan", choices=list(PLANS), default="quick")
    parser.addoption("--subjects", type=Path, help="JSON of the bundles to measure, from python -m benchmarks.latency")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a test its setups, and one that asks for N and S its sizes in each."""
    plan: Plan = PLANS[metafunc.config.getoption("--plan")]
    described = json.loads(metafunc.config.getoption("--subjects").read_text(encoding="utf-8"))
    subjects = [typed(Subject, entry, "subject") for entry in described]
    found = setups(subjects, engines(), CORES)
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
    """Run the cells of one setup together: it is opened once."""
    items.sort(key=lambda item: str(_setup_of(item)))


def _setup_of(item: pytest.Item) -> Setup:
    assert isinstance(item, pytest.Function)
    setup = item.callspec.params["setup"]
    assert isinstance(setup, Setup)
    return setup


class Opened:
    """The setup that is open; only one is, so that others' threads and memory are out of the way."""

    def __init__(self) -> None:
        self._name: str | None = None
        self._segmenter: Segmenter | None = None

    def __call__(self, setup: Setup) -> Segmenter:
        """Open a setup, unless it is."""
        if self._segmenter is None or self._name != str(setup):
            self.close()
            self._name, self._segmenter = str(setup), setup.engine.open(setup.subject.path, setup.threads)
        return self._segmenter

    def close(self) -> None:
        """Close what is open."""
        if self._segmenter is not None:
            self._segmenter.backend.close()
        self._segmenter = None


@pytest.fixture(scope="session")
def opened() -> Iterator[Opened]:
    """Return what opens setups, and closes the last one."""
    keeper = Opened()
    yield keeper
    keeper.close()


@pytest.fixture
def segmenter(opened: Opened, setup: Setup) -> Segmenter:
    """Return the segmenter of this cell's setup."""
    return opened(setup)


@pytest.fixture
def measure(benchmark: BenchmarkFixture, setup: Setup, pytestconfig: pytest.Config) -> Measure:
    """Return what times a call for as long as the plan says, and notes which cell it was."""
    plan: Plan = PLANS[pytestconfig.getoption("--plan")]

    def measure(stage: Stage, run: Run, *, samples: int, steps: int, multiplications: int) -> None:
        run()  # allocates, and compiles where an engine does so for every size
        rounds = max(plan.least_rounds, round(1e3 * plan.cell_seconds / max(milliseconds_of(run), 1e-3)))
        benchmark.extra_info |= _facts(setup, stage, samples, steps, multiplications)
        timed: Any = benchmark  # its `pedantic` has no annotations
        timed.pedantic(run, rounds=min(rounds, MOST_ROUNDS))

    return measure


def _facts(setup: Setup, stage: Stage, samples: int, steps: int, multiplications: int) -> dict[str, Any]:
    """Return all fields of a `Cell` but its timing."""
    return dataclasses.asdict(setup.engine) | {
        "bundle": setup.subject.name,
        "threads": setup.threads,
        "stage": stage,
        "samples": samples,
        "steps": steps,
        "multiplications": multiplications,
    }
