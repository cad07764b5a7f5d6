"""The page of a latency run: head, targets and peers; the other sections are in `page_sections` and `page_grid`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmarks.common.page import Page, Plot, Section
from benchmarks.common.tables import count_of, format_ms, table
from benchmarks.latency.ours import BATCHED, END_TO_END, ONE_BY_ONE
from benchmarks.latency.page_grid import grid_sections
from benchmarks.latency.page_sections import agreement, folder, memory, starts, where_time_goes
from benchmarks.latency.peers import MEDSEGDIFF_STEPS
from benchmarks.latency.plot import paint
from benchmarks.latency.report import Report
from benchmarks.latency.subject import Subject
from benchmarks.latency.targets import contender, fastest, over_floor, ratio_to, targets
from benchmarks.latency.timing import Ratio, Timing

TRIED = Path(__file__).with_name("tried.md")
DPM_SOLVER_STEPS = 50


def page(report: Report) -> Page:
    """Lay out the page."""
    machine = report.machine
    return Page(
        kind="latency",
        subject=f"{machine.processor}, {machine.cores} cores",
        title="Latency",
        record=report,
        data=_data(report),
        seed=0,
        facts={
            "Load": _load(report),
            "Bundles": "; ".join(_described(subject) for subject in report.subjects),
        },
        warnings=tuple(_warnings(report)),
        introduction=(_how_to_read(report),),
        plot=Plot("Time of each contender, and time against N", lambda: paint(report)),
        sections=(
            _targets(report),
            _peers(report),
            where_time_goes(report),
            *grid_sections(report),
            starts(report),
            memory(report),
            agreement(report),
            folder(report),
            Section("What was tried and did not help", (TRIED.read_text(encoding="utf-8"),)),
        ),
    )


def _data(report: Report) -> str:
    synthetic = "one synthetic image per bundle"
    if not report.agreement or report.folder is None:
        return f"{synthetic}; no real images"
    real = f"{report.agreement[0].images} (agreement) and {report.folder.images} (folder) images of the split `val`"
    return f"{synthetic}; {real}"


def _load(report: Report) -> str:
    machine = report.machine
    average = ", ".join(f"{value:.2f}" for value in machine.load_average)
    most = max(report.taken_by_others.values(), default=0.0)
    return (
        f"average at the start {average}; other processes took {machine.taken_by_others:.1%} of the processor time before the run, and at "
        f"most {most:.1%} during a part of it"
    )


def _how_to_read(report: Report) -> str:
    peaks = "; ".join(
        f"{peak.precision}, {count_of(peak.threads, 'thread')}: {peak.gmacs_per_second:.0f} GMAC/s by {peak.library} at {peak.side}x{peak.side}"
        for peak in report.peaks
    )
    return (
        "How to read it: a *floor* is the time of the multiply-accumulates in convolutions and matrix products at the speed of the fastest "
        f"matrix product of torch or ONNX Runtime here, in the same precision and number of threads ({peaks}; measured again in the rounds of "
        "the contest). With the same multiplications nothing is faster. A ratio is one of medians of calls taken in turns; in brackets, "
        "the 10th to 90th percentile of the ratios within a round."
    )


def _warnings(report: Report) -> Iterator[str]:
    if report.plan == "smoke":
        yield "A smoke run: toy sizes, one round. No figure here means anything."
    if report.disturbed:
        parts = ", ".join(f"{part} {share:.0%}" for part, share in report.disturbed.items())
        yield f"The machine was busy. Share of processor time that other processes took: {parts}. Do not quote these figures."


def _described(subject: Subject) -> str:
    costs = ", ".join(f"{name} {cost.of(1) / 1e6:.0f}" for name, cost in subject.costs.items())
    return (
        f"`{subject.name}` ({subject.weights} weights, {subject.field} px field in a {subject.image} px image, sha256 {subject.sha256[:12]}; "
        f"MMAC of a call on one sample: {costs})"
    )


def _targets(report: Report) -> Section:
    column = "AMX / avx512_bf16" if report.machine.has_bf16 else "AVX2 only"
    contest = report.contest
    rows = [(one.what, one.with_bf16, one.avx2_only, one.measured, one.verdict) for one in targets(report)]
    return Section(
        "Targets",
        (
            (
                f"{contest.samples} samples, {contest.steps} steps (the bundle's default), {count_of(contest.threads, 'thread')}. The column of "
                f"this processor is **{column}**."
            ),
            table(("", "target, AMX / avx512_bf16", "target, AVX2 only", "measured", ""), rows),
            "`python -m benchmarks.accuracy.samples_auto` measures `--samples auto`.",
        ),
    )


def _peers(report: Report) -> Section:
    contest, ours = report.contest, fastest(report.contest)
    rows = []
    for found in sorted(contest.contenders, key=lambda one: Timing.of(one.milliseconds).p50):
        timing, ratio = Timing.of(found.milliseconds), Ratio.of(found.milliseconds, ours.milliseconds)
        name = found.what if found.what.startswith("ours") else f"({found.key}) {found.what}"
        rows.append((
            f"**{name}**" if found is ours else name,
            f"{found.parameters / 1e6:.1f}",
            f"{found.multiplications / 1e9:.1f}",
            *timing.cells(),
            f"{over_floor(report, found):.2f}x",
            f"{ratio.p50:.2f}x ({ratio.low:.2f} to {ratio.high:.2f})",
        ))  # fmt: skip
    header = ("", "M weights", "GMAC", "n", "min ms", "p50", "p90", "p95", "p50 over floor", "over our fastest")
    return Section(
        f"Side by side: {contest.samples} samples of one image, {count_of(contest.threads, 'thread')}",
        (_about_the_contest(len(ours.milliseconds)), table(header, rows), "\n".join(_comments(report))),
    )


def _about_the_contest(rounds: int) -> str:
    return (
        f"All in one process, in turns, {count_of(rounds, 'round')}; each round starts with another contender. *{END_TO_END}* is the whole call "
        f"of `Segmenter`, from pixels to masks and maps. *{BATCHED}* and *{ONE_BY_ONE}* are encoder, denoiser and decoder alone, with the "
        "condition computed once in both. The time of the peers excludes reading, thresholding, resizing and counting. (a) and (b) are our "
        "architecture, (c) and (e) networks of its size, all with random weights. (a) has more GMAC than ours because it encodes again for "
        "every sample."
    )


def _comments(report: Report) -> Iterator[str]:
    contest, ours = report.contest, fastest(report.contest)
    whole = Timing.of(ours.milliseconds).p50
    step = Timing.of(contender(contest, "d").milliseconds).p50
    for steps, note in ((MEDSEGDIFF_STEPS, "its default"), (DPM_SOLVER_STEPS, "with its DPM-Solver")):
        seconds = contest.samples * steps * step / 1e3
        yield (
            f"- (d) **extrapolated, not measured**: {contest.samples} samples x {steps} steps ({note}) x one step = {seconds:,.0f} s, "
            f"{1e3 * seconds / whole:,.0f} times our {format_ms(whole)} ms. A step of MedSegDiff costs more: its second encoder is left out."
        )
    price = ratio_to(contest, ours.key, contender(contest, "e"))
    yield (
        f"- Cost of uncertainty: {contest.samples} masks of ours take {price.p50:.1f} times as long as one mask of (e), a deterministic "
        "network of the same size."
    )
