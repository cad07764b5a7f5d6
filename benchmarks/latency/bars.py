"""What this runtime promised, and what this run says of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.latency.contest import Contender, Contest
from benchmarks.latency.ours import BATCHED, END_TO_END, ONE_BY_ONE
from benchmarks.latency.report import Report
from benchmarks.latency.timing import Ratio, Timing

NOT_RUN = "not run on this CPU"


@dataclass(frozen=True, kw_only=True, slots=True)
class Bar:
    """One promise."""

    what: str
    with_bf16: str
    """The bar on a processor with AMX or avx512_bf16."""
    avx2_only: str
    measured: str
    met: bool | None
    """None: it was not run here."""

    @property
    def verdict(self) -> str:
        """One word, or a few."""
        return NOT_RUN if self.met is None else "met" if self.met else "**missed**"


def best(contest: Contest, precision: str | None = None) -> Contender:
    """Return our fastest engine end to end, of one precision or of all."""
    ours = [c for c in contest.contenders if c.key.endswith(END_TO_END) and precision in (None, c.precision)]
    return min(ours, key=lambda contender: Timing.of(contender.milliseconds).p50)


def contender(contest: Contest, key: str) -> Contender:
    """Return a contender by its key."""
    return next(found for found in contest.contenders if found.key == key)


def times(contest: Contest, slow: str, fast: Contender) -> Ratio:
    """Return how many times as long a contender took as another."""
    return Ratio.of(contender(contest, slow).milliseconds, fast.milliseconds)


def over_floor(report: Report, found: Contender) -> float:
    """Return a contender's median over the time of its multiplications at the peak measured in the same rounds."""
    peak = next(peak for peak in report.contest.peaks if peak.precision == found.precision)
    return Timing.of(found.milliseconds).p50 / peak.floor_ms(found.multiplications)


def bars(report: Report) -> list[Bar]:
    """Hold a report against every bar."""
    return [*_ratios(report), *_floors(report), *_starts(report), *_agreement(report), *_folder(report)]


def _ratios(report: Report) -> Iterator[Bar]:
    contest, ours = report.contest, best(report.contest)
    engine = ours.key.removesuffix(f", {END_TO_END}")
    for what, ratio, limits in (
        ("warm end to end against (a) torch, one sample at a time", times(contest, "a", ours), (8.0, 3.5)),
        ("against (c) diffusers, DDIM 50", times(contest, "c", ours), (20.0, 12.0)),
        ("against (b) torch float32, batched", times(contest, "b float32", ours), (3.0, 1.1)),
        ("one call against one sample after another, our best engine, condition shared in both",
         times(contest, f"{engine}, {ONE_BY_ONE}", contender(contest, f"{engine}, {BATCHED}")), (2.0, 1.4)),
    ):  # fmt: skip
        limit = limits[0] if report.machine.has_bf16 else limits[1]
        measured = f"{ratio.p50:.2f}x ({ratio.low:.2f} to {ratio.high:.2f})"
        yield Bar(
            what=what, with_bf16=f">= {limits[0]:g}x", avx2_only=f">= {limits[1]:g}x", measured=measured, met=ratio.p50 >= limit
        )  # fmt: skip


def _floors(report: Report) -> Iterator[Bar]:
    bf16 = report.machine.has_bf16
    for precision, with_bf16, avx2_only in (("bfloat16", 2.2, None), ("float32", 1.5, 1.4)):
        limit = with_bf16 if bf16 else avx2_only
        runs = any(peak.precision == precision for peak in report.contest.peaks)
        ours = [c for c in report.contest.contenders if c.key.endswith(END_TO_END) and c.precision == precision]
        ratio = over_floor(report, best(report.contest, precision)) if runs and ours else None
        yield Bar(
            what=f"whole pipeline over its own floor, {precision}",
            with_bf16=f"<= {with_bf16}x",
            avx2_only="no bar" if avx2_only is None else f"<= {avx2_only}x",
            measured="-" if ratio is None else f"{ratio:.2f}x",
            met=None if ratio is None or limit is None else ratio <= limit,
        )


def _starts(report: Report) -> Iterator[Bar]:
    for what, milliseconds, limit in (
        ("second start of `medseg-infer` on a 128 px image, wall", report.starts.second.p50, 1000.0),
        ("of it our own Python", report.starts.parts.own, 350.0),
    ):
        yield _absolute(what, f"<= {limit / 1e3:g} s", f"{milliseconds / 1e3:.2f} s", milliseconds <= limit)


def _agreement(report: Report) -> Iterator[Bar]:
    for precision, limit in (("float32", 1e-4), ("bfloat16", 0.02)):
        found = [a for a in report.agreement if a.engine.endswith(precision)]
        worst = max((a.probability_error for a in found), default=None)
        yield _absolute(
            f"mean probability of {precision} engines, largest difference from the reference",
            f"<= {limit:g}",
            "-" if worst is None else f"{worst:.2g}",
            None if worst is None else worst <= limit,
        )
        if precision == "bfloat16":
            least = min((a.mask_dice for a in found), default=None)
            measured = "-" if least is None else f"{least:.4f}"
            yield _absolute(
                "Dice of its masks against the reference's",
                ">= 0.99",
                measured,
                None if least is None else least >= 0.99,
            )


def _folder(report: Report) -> Iterator[Bar]:
    what, run = "`medseg-infer` on a folder of val crops, over the time of its networks", report.folder
    if run is None:
        yield _absolute(what, "<= 1.25x", "-", None)
        return
    ratio = Ratio.of(run.command_ms, run.networks_ms)
    yield _absolute(what, "<= 1.25x", f"{ratio.p50:.2f}x ({run.images} crops)", ratio.p50 <= 1.25)


def _absolute(what: str, limit: str, measured: str, met: bool | None) -> Bar:
    return Bar(what=what, with_bf16=limit, avx2_only=limit, measured=measured, met=met)
