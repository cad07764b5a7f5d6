"""The latency benchmark: a smoke run of every part, the counted multiplications, the targets and the timings."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("monai", reason="the peers need `pip install 'medseglatdiff[bench]'`")

from benchmarks.common.networks import graph_cost, preset_of, untrained
from benchmarks.latency.page import page
from benchmarks.latency.report import Report
from benchmarks.latency.targets import NOT_RUN, targets
from benchmarks.latency.timing import Ratio, Timing, in_turns
from medseg_runtime.errors import BundleError
from medseg_runtime.model.bundle import SHIPPED, Bundle, Sampling

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def smoke(phantom_zips, tmp_path_factory) -> Report:
    """A run of every part at toy size, started as a command."""
    out = tmp_path_factory.mktemp("bench")
    # the grid runs pytest-benchmark, which measures nothing in a process of pytest-xdist
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.latency", "--plan", "smoke", "--even-if-busy", "--data", str(phantom_zips), "--out", str(out)],
        cwd=ROOT, env=environment | {"OMP_WAIT_POLICY": "passive"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (path,) = out.glob("*.json")
    assert path.with_suffix(".md").read_text() == page(Report.read(path)).markdown()
    assert str(ROOT) not in path.read_text()
    assert not any(Path(subject.folder).is_absolute() for subject in Report.read(path).subjects)
    assert path.with_suffix(".png").stat().st_size > 10_000
    return Report.read(path)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_smoke_run_measures_everything(smoke):
    assert {cell.stage for cell in smoke.cells} == {"encode", "step", "decode", "end to end"}
    assert {contender.key[0] for contender in smoke.contest.contenders} == set("abcdeo")
    assert {cell.bundle for cell in smoke.cells} == {subject.name for subject in smoke.subjects}
    assert smoke.memory
    assert smoke.starts.second.n == 2
    assert smoke.folder is not None
    assert smoke.folder.images == 3
    assert all(peer.images == 2 for peer in smoke.agreement)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_targets_are_those_of_the_processor(smoke):
    def judged(features, factor):
        contenders = tuple(
            replace(one, milliseconds=(1e3 * factor,) if one.key == "a" else (1e3,)) for one in smoke.contest.contenders
        )
        contest = replace(smoke.contest, contenders=contenders)
        return targets(replace(smoke, machine=replace(smoke.machine, features=features), contest=contest))

    assert judged(("avx2",), 4.0)[0].met
    assert not judged(("avx2",), 3.0)[0].met
    assert not judged(("avx2", "avx512_bf16"), 4.0)[0].met
    assert judged(("avx2", "avx512_bf16"), 9.0)[0].met
    without_data = targets(replace(smoke, agreement=(), folder=None))
    assert [target.verdict for target in without_data].count(NOT_RUN) >= 4


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_page_of_a_busy_machine_carries_a_warning(smoke):
    assert "The machine was busy" in page(replace(smoke, taken_by_others={"contest": 0.5})).markdown()
    idle = replace(smoke, taken_by_others={"contest": 0.01}, machine=replace(smoke.machine, taken_by_others=0.0))
    assert "The machine was busy" not in page(idle).markdown()


def test_multiplications_are_counted_once_for_the_condition_and_per_sample_otherwise(micro):
    config = micro()
    cost = graph_cost(config, "denoiser")
    denoiser = untrained(config).denoiser
    cells = config.latent[1] * config.latent[2]
    linear = sum(layer.weight.numel() for name, layer in denoiser.named_modules() if type(layer).__name__ == "Linear")
    assert cost.common == denoiser.condition_in.weight.numel() * cells + linear
    assert cost.of(3) - cost.of(2) == cost.per_sample > 0
    assert graph_cost(config, "decoder").common == 0


def test_the_peers_have_the_networks_and_the_sampling_of_the_bundle():
    bundle = Bundle.load(SHIPPED)
    sampling = replace(bundle.manifest.sampling, steps=7)
    found = preset_of(replace(bundle, manifest=replace(bundle.manifest, sampling=sampling)))
    assert isinstance(found.sampling, Sampling)
    assert found.sampling.steps == 7
    graphs = bundle.graphs | {"denoiser": bundle.graphs["decoder"]}
    with pytest.raises(BundleError, match="no preset has the networks"):
        preset_of(replace(bundle, graphs=graphs))


def test_each_round_starts_with_another_contender():
    order = []
    taken = in_turns({name: lambda name=name: order.append(name) for name in "ab"}, rounds=2)
    assert {name: len(times) for name, times in taken.items()} == {"a": 2, "b": 2}
    assert "".join(order) == "ab" + "aabb" + "bbaa"


def test_a_ratio_is_of_medians_and_its_spread_is_over_rounds():
    ratio = Ratio.of((4.0, 8.0, 100.0), (2.0, 2.0, 2.0))
    assert ratio.p50 == 4.0
    assert ratio.low < 4.0 < ratio.high
    timing = Timing.of(np.arange(101.0).tolist())
    assert (timing.n, timing.min, timing.p50, timing.p90, timing.p95) == (101, 0.0, 50.0, 90.0, 95.0)
