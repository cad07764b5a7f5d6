"""The project's latency targets, and whether a run meets them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.latency.contest import Contender, Contest
from benchmarks.latency.ours import BATCHED, END_TO_END, ONE_BY_ONE
from benchmarks.latency.report import Report
from benchmarks.latency.timing import Ratio, Timing

NOT_RUN = "not run on this CPU"


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """One target."""

    what: str
    with_bf16: str
    """Limit on a processor with AMX or avx512_bf16."""
    avx2_only: str
    """Limit on a processor without."""
    measured: str
    met: bool | None
    """None: not measured here."""

    @property
    def verdict(self) -> str:
        """Cell of the table."""
        return NOT_RUN if self.met is None else "met" if self.met else "**missed**"


def fastest(contest: Contest, precision: str | None = None) -> Contender:
    """Return our fastest backend end to end, of one precision or of all."""
    ours = [c for c in contest.contenders if c.key.endswith(END_TO_END) and precision in (None, c.precision)]
    return min(ours, key=lambda contender: Timing.of(contender.milliseconds).p50)


def contender(contest: Contest, key: str) -> Contender:
    """Return a contender by its key."""
    return next(found for found in contest.contenders if found.key == key)


def ratio_to(contest: Contest, slow: str, fast: Contender) -> Ratio:
    """Return the time of a contender over that of another."""
    return Ratio.of(contender(contest, slow).milliseconds, fast.milliseconds)


def over_floor(report: Report, found: Contender) -> float:
    """Return a contender's median over its floor, at the peak measured in the same rounds."""
    peak = next(peak for peak in report.contest.peaks if peak.precision == found.precision)
    return Timing.of(found.milliseconds).p50 / peak.floor_ms(found.multiplications)


def targets(report: Report) -> list[Target]:
    """Compare a report with every target."""
    return [*_ratios(report), *_floors(report), *_starts(report), *_agreement(report), *_folder(report)]


def _ratios(report: Report) -> Iterator[Target]:
    contest, ours = report.contest, fastest(report.contest)
    backend = ours.key.removesuffix(f", {END_TO_END}")
    one_call = contender(contest, f"{backend}, {BATCHED}")
    for what, ratio, limits in (
        ("warm end to end against (a) torch, one sample at a time", ratio_to(contest, "a", ours), (8.0, 3.5)),
        ("against (c) diffusers, DDIM 50", ratio_to(contest, "c", ours), (20.0, 12.0)),
        ("against (b) torch float32, batched", ratio_to(contest, "b float32", ours), (3.0, 1.1)),
        (
            "one call against one sample after another, our fastest backend, condition shared in both",
            ratio_to(contest, f"{backend}, {ONE_BY_ONE}", one_call),
            (2.0, 1.4),
        ),
    ):
        limit = limits[0] if report.machine.has_bf16 else limits[1]
        yield Target(
            what=what,
            with_bf16=f">= {limits[0]:g}x",
            avx2_only=f">= {limits[1]:g}x",
            measured=f"{ratio.p50:.2f}x ({ratio.low:.2f} to {ratio.high:.2f})",
            met=ratio.p50 >= limit,
        )


def _floors(report: Report) -> Iterator[Target]:
    bf16 = report.machine.has_bf16
    for precision, with_bf16, avx2_only in (("bfloat16", 2.2, None), ("float32", 1.5, 1.4)):
        limit = with_bf16 if bf16 else avx2_only
        runs = any(peak.precision == precision for peak in report.contest.peaks)
        ours = [c for c in report.contest.contenders if c.key.endswith(END_TO_END) and c.precision == precision]
        ratio = over_floor(report, fastest(report.contest, precision)) if runs and ours else None
        yield Target(
            what=f"whole pipeline over its own floor, {precision}",
            with_bf16=f"<= {with_bf16}x",
            avx2_only="no target" if avx2_only is None else f"<= {avx2_only}x",
            measured="-" if ratio is None else f"{ratio:.2f}x",
            met=None if ratio is None or limit is None else ratio <= limit,
        )


def _starts(report: Report) -> Iterator[Target]:
    for what, milliseconds, limit in (
        ("second start of `medseg-infer` on a 128 px image, wall", report.starts.second.p50, 1000.0),
        ("of it our own Python", report.starts.parts.own, 350.0),
    ):
        yield _absolute(what, f"<= {limit / 1e3:g} s", f"{milliseconds / 1e3:.2f} s", milliseconds <= limit)


def _agreement(report: Report) -> Iterator[Target]:
    for precision, limit in (("float32", 1e-4), ("bfloat16", 0.02)):
        found = [a for a in report.agreement if a.backend.endswith(precision)]
        worst = max((a.probability_error for a in found), default=None)
        yield _absolute(
            f"mean probability of {precision} backends, largest difference from the reference",
            f"<= {limit:g}",
            "-" if worst is None else f"{worst:.2g}",
            None if worst is None else worst <= limit,
        )
        if precision == "bfloat16":
            least = min((a.mask_dice for a in found), default=None)
            yield _absolute(
                "Dice of its masks against the reference's",
                ">= 0.99",
                "-" if least is None else f"{least:.4f}",
                None if least is None else least >= 0.99,
            )


def _folder(report: Report) -> Iterator[Target]:
    what, run = "`medseg-infer` on a folder of val crops, over the time of its networks", report.folder
    if run is None:
        yield _absolute(what, "<= 1.25x", "-", None)
        return
    ratio = Ratio.of(run.command_ms, run.networks_ms)
    yield _absolute(what, "<= 1.25x", f"{ratio.p50:.2f}x ({run.images} crops)", ratio.p50 <= 1.25)


def _absolute(what: str, limit: str, measured: str, met: bool | None) -> Target:
    return Target(what=what, with_bf16=limit, avx2_only=limit, measured=measured, met=met)
