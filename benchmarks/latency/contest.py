"""Time our backends, the peers and the machine's fastest matrix product in turns in one process, so that ratios are fair."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from benchmarks.common.networks import multiplications, preset_of
from benchmarks.latency.backends import BackendChoice
from benchmarks.latency.ours import Ours
from benchmarks.latency.peak import Peak, find_peak, peak_of, product
from benchmarks.latency.peers import Peer, peers
from benchmarks.latency.plan import Plan
from benchmarks.latency.subject import Subject
from benchmarks.latency.timing import in_turns
from medseg_runtime.model.bundle import Bundle


@dataclass(frozen=True, kw_only=True, slots=True)
class Contender:
    """One way to the samples, and its timings."""

    key: str
    """A letter for a peer; for us, backend and `END_TO_END`, `BATCHED` or `ONE_BY_ONE` of `ours`."""
    what: str
    precision: str
    parameters: int
    multiplications: int
    milliseconds: tuple[float, ...]
    """One per round, so that two contenders can be compared round by round."""


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
    """Backend => stage => median milliseconds within the end-to-end calls."""


def run_contest(
    subject: Subject,
    backends: tuple[BackendChoice, ...],
    plan: Plan,
    *,
    precisions: Sequence[str],
    threads: int,
    say: Callable[[str], None],
) -> Contest:
    """Run the contest on one bundle, at its default number of steps.

    precisions: that the processor multiplies in. say: called with a line after each round.
    """
    samples, steps = max(n for n in plan.samples if n <= 16), subject.default_steps
    torch.set_num_threads(threads)
    config = preset_of(Bundle.load(subject.path))
    rivals = peers(config, samples, has_bf16="bfloat16" in precisions, divisor=plan.field_divisor)
    ours = [Ours(choice, choice.open(subject.path, threads), subject, samples) for choice in backends]
    best = [find_peak(precision, threads, plan.gemm_sides) for precision in precisions]
    runs = {f"peak {peak.precision}": product(peak.library, peak.precision, peak.side, threads) for peak in best}
    for one in ours:
        runs |= one.runs()
    taken = in_turns(runs | {peer.key: peer.run for peer in rivals}, plan.contest_rounds, say)
    whole = subject.of_a_run(samples, steps)
    size = rivals[0].parameters  # (a) has our networks
    contenders = [_ours(one, key, taken[key], size, whole) for one in ours for key in one.runs()]
    contenders += [_theirs(peer, taken[peer.key]) for peer in rivals]
    return Contest(
        bundle=subject.name,
        samples=samples,
        steps=steps,
        threads=threads,
        contenders=tuple(contenders),
        peaks=tuple(peak_of(p.precision, threads, p.library, p.side, taken[f"peak {p.precision}"]) for p in best),
        stages={str(one.choice): {s: float(np.median(ms)) for s, ms in one.stages.items()} for one in ours},
    )


def _ours(one: Ours, key: str, taken: list[float], parameters: int, multiplications: int) -> Contender:
    return Contender(
        key=key,
        what=f"ours, {key}",
        precision=one.choice.precision,
        parameters=parameters,
        multiplications=multiplications,
        milliseconds=tuple(taken),
    )


def _theirs(peer: Peer, taken: list[float]) -> Contender:
    return Contender(
        key=peer.key,
        what=peer.what,
        precision="bfloat16" if "bfloat16" in peer.key else "float32",
        parameters=peer.parameters,
        multiplications=multiplications(peer.run),
        milliseconds=tuple(taken),
    )
