"""We, the peers and the machine's own peak, timed in turns in one process, so that their ratios can be believed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from benchmarks.latency.engines import Engine
from benchmarks.latency.networks import multiplications, preset_of
from benchmarks.latency.ours import Ours
from benchmarks.latency.peak import Peak, find_peak, peak_of, product
from benchmarks.latency.peers import peers
from benchmarks.latency.plan import Plan
from benchmarks.latency.subject import Subject
from benchmarks.latency.timing import in_turns
from medseg_runtime.model.bundle import Bundle


@dataclass(frozen=True, kw_only=True, slots=True)
class Contender:
    """One way to the answer and its timings."""

    key: str
    """A letter for a peer; engine and `END_TO_END`, `BATCHED` or `ONE_BY_ONE` of `ours` for us."""
    what: str
    precision: str
    parameters: int
    multiplications: int
    milliseconds: tuple[float, ...]
    """One per round; the same round of two contenders can be compared."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Contest:
    """All contenders of one run."""

    bundle: str
    samples: int
    steps: int
    threads: int
    contenders: tuple[Contender, ...]
    peaks: tuple[Peak, ...]
    """Measured in the same rounds."""
    stages: dict[str, dict[str, float]]
    """Engine => stage => median milliseconds within the end-to-end calls."""


def hold(
    subject: Subject,
    engines: tuple[Engine, ...],
    plan: Plan,
    *,
    has_bf16: bool,
    threads: int,
    say: Callable[[str], None],
) -> Contest:
    """Run the contest on one bundle, at its default number of steps."""
    samples, steps = max(n for n in plan.samples if n <= 16), subject.default_steps
    torch.set_num_threads(threads)
    rivals = peers(preset_of(Bundle.load(subject.path)), samples, has_bf16=has_bf16, divisor=plan.field_divisor)
    ours = [Ours(engine, engine.open(subject.path, threads), subject, samples) for engine in engines]
    precisions = ("float32", "bfloat16") if has_bf16 else ("float32",)
    best = [find_peak(precision, threads, plan.gemm_sides) for precision in precisions]
    runs = {f"peak {peak.precision}": product(peak.library, peak.precision, peak.side, threads) for peak in best}
    for one in ours:
        runs |= one.runs()
    taken = in_turns(runs | {peer.key: peer.run for peer in rivals}, plan.contest_rounds, say)
    whole = subject.of_a_run(samples, steps)
    found = [
        Contender(key=key, what=f"ours, {key}", precision=one.engine.precision, parameters=rivals[0].parameters, multiplications=whole, milliseconds=tuple(taken[key]))
        for one in ours
        for key in one.runs()
    ]  # fmt: skip
    found += [
        Contender(key=peer.key, what=peer.what, precision="bfloat16" if "bfloat16" in peer.key else "float32", parameters=peer.parameters,
                  multiplications=multiplications(peer.run), milliseconds=tuple(taken[peer.key]))
        for peer in rivals
    ]  # fmt: skip
    return Contest(
        bundle=subject.name,
        samples=samples,
        steps=steps,
        threads=threads,
        contenders=tuple(found),
        peaks=tuple(peak_of(p.precision, threads, p.library, p.side, taken[f"peak {p.precision}"]) for p in best),
        stages={str(one.engine): {s: float(np.median(ms)) for s, ms in one.stages.items()} for one in ours},
    )
