"""A report as a page for readers: Markdown, with every table's meaning beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.latency.bars import bars, best, contender, over_floor, times
from benchmarks.latency.ours import BATCHED, END_TO_END, ONE_BY_ONE
from benchmarks.latency.page_grid import grid_sections
from benchmarks.latency.peers import MEDSEGDIFF_STEPS
from benchmarks.latency.report import Report
from benchmarks.latency.subject import Subject
from benchmarks.latency.timing import Ratio, Timing
from benchmarks.tables import counted, ms, table

TRIED = Path(__file__).with_name("tried.md")
DPM_SOLVER_STEPS = 50


def page(report: Report) -> str:
    """Return the page as Markdown."""
    sections = (
        _head(report),
        _bars(report),
        f"![Who takes how long, and how time grows with N]({report.stem}.png)",
        _peers(report),
        _where_time_goes(report),
        *grid_sections(report),
        _starts(report),
        _memory(report),
        _agreement(report),
        _folder(report),
        "## What was tried and did not help\n\n" + TRIED.read_text(encoding="utf-8").strip(),
    )
    return "\n\n".join(sections) + "\n"


def _head(report: Report) -> str:
    machine = report.machine
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    load = ", ".join(f"{value:.2f}" for value in machine.load_average)
    most = max(report.taken_by_others.values(), default=0.0)
    features = ", ".join(machine.features) or "not even AVX2"
    peaks = "; ".join(
        f"{peak.precision}, {counted(peak.threads, 'thread')}: {peak.gmacs_per_second:.0f} GMAC/s by {peak.library} at {peak.side}x{peak.side}"
        for peak in report.peaks
    )
    return "\n\n".join((
        f"# {report.stem}",
        *_warnings(report),
        (f"{machine.processor}, {machine.cores} cores, {features}, {machine.memory_gib} GiB; {machine.system}; Python {machine.python}; {versions}; "
        f"commit {machine.commit}."),
        (f"`{report.command}`, {report.date}, {report.seconds / 60:.0f} minutes. Load average at the start: {load}. "
        f"Others took {machine.taken_by_others:.1%} of the processor time before it, and at most {most:.1%} during a part of it."),
        f"Bundles: {'; '.join(_described(subject) for subject in report.subjects)}.",
        ("How to read it: a *floor* is the number of multiply-accumulates in convolutions and matrix products over the fastest matrix product that torch or ONNX Runtime does "
        f"here in the same precision and number of threads ({peaks}; in the contest, measured again in its rounds). With the same multiplications nothing gets "
        "below it. A ratio is one of medians of calls taken in turns; in brackets, the 10th to 90th percentile of the ratios within a round."),
    ))  # fmt: skip


def _warnings(report: Report) -> Iterator[str]:
    if report.plan == "smoke":
        yield "> **A smoke run: toy sizes, one round. No figure here means anything.**"
    if report.disturbed:
        parts = ", ".join(f"{part} {share:.0%}" for part, share in report.disturbed.items())
        yield f"> **The machine was busy. Others took of its processor time: {parts}. Do not quote these figures.**"


def _described(subject: Subject) -> str:
    costs = ", ".join(f"{name} {cost.of(1) / 1e6:.0f}" for name, cost in subject.costs.items())
    return (
        f"`{subject.name}` ({subject.weights} weights, {subject.field} px field in a {subject.image} px image, sha256 {subject.sha256[:12]}; "
        f"MMAC of a call on one sample: {costs})"
    )


def _bars(report: Report) -> str:
    column = "AMX / avx512_bf16" if report.machine.has_bf16 else "AVX2 only"
    rows = [(bar.what, bar.with_bf16, bar.avx2_only, bar.measured, bar.verdict) for bar in bars(report)]
    contest = report.contest
    return (
        f"## Bars\n\n{contest.samples} samples, {contest.steps} steps (the bundle's default), {counted(contest.threads, 'thread')}. This processor fills the column **{column}**; "
        "the other was not run.\n\n"
        + table(("", "bar, AMX / avx512_bf16", "bar, AVX2 only", "measured", ""), rows)
        + "\n\nThe bars of `--samples auto` are on the page of `benchmarks/samples_auto.py`."
    )  # fmt: skip


def _peers(report: Report) -> str:
    contest, ours = report.contest, best(report.contest)
    threads = counted(contest.threads, "thread")
    rows = []
    for found in sorted(contest.contenders, key=lambda one: Timing.of(one.milliseconds).p50):
        timing, ratio = Timing.of(found.milliseconds), Ratio.of(found.milliseconds, ours.milliseconds)
        name = found.what if found.what.startswith("ours") else f"({found.key}) {found.what}"
        rows.append((
            f"**{name}**" if found is ours else name,
            f"{found.parameters / 1e6:.1f}",
            f"{found.multiplications / 1e9:.1f}",
            str(timing.n), ms(timing.min), ms(timing.p50), ms(timing.p90), ms(timing.p95),
            f"{over_floor(report, found):.2f}x",
            f"{ratio.p50:.2f}x ({ratio.low:.2f} to {ratio.high:.2f})",
        ))  # fmt: skip
    header = ("", "M weights", "GMAC", "n", "min ms", "p50", "p90", "p95", "p50 over floor", "over our best")
    return "\n\n".join((
        f"## Side by side: {contest.samples} samples of one image, {threads}",
        _about_the_contest(len(ours.milliseconds)),
        table(header, rows),
        "\n".join(_said_of_peers(report)),
    ))  # fmt: skip


def _about_the_contest(rounds: int) -> str:
    return (
        f"All in one process, in turns, {counted(rounds, 'round')}, each begun by another one. *{END_TO_END}* is the whole call of `Segmenter`, pixels to masks and maps; "
        f"*{BATCHED}* and *{ONE_BY_ONE}* are encoder, denoiser and decoder alone, the condition computed once in both. The peers are not charged for reading, "
        "thresholding, resizing or counting. (a) and (b) are our architecture, (c) and (e) networks of its size, all with random weights. The counted GMAC of (a) "
        "are more than ours because it encodes again for every sample."
    )


def _said_of_peers(report: Report) -> Iterator[str]:
    contest, ours = report.contest, best(report.contest)
    whole = Timing.of(ours.milliseconds).p50
    step = Timing.of(contender(contest, "d").milliseconds).p50
    for steps, note in ((MEDSEGDIFF_STEPS, "its default"), (DPM_SOLVER_STEPS, "with its DPM-Solver")):
        seconds = contest.samples * steps * step / 1e3
        yield (
            f"- (d) **extrapolated, not measured**: {contest.samples} samples x {steps} steps ({note}) x one step = {seconds:,.0f} s, "
            f"{1e3 * seconds / whole:,.0f} times our {ms(whole)} ms. A step of MedSegDiff costs more: its second encoder is left out."
        )
    price = times(contest, ours.key, contender(contest, "e"))
    yield f"- The price of uncertainty: {contest.samples} masks of ours take {price.p50:.1f} times as long as one mask of (e), a deterministic network of the same size."


def _where_time_goes(report: Report) -> str:
    contest, costs = report.contest, report.shipped.costs
    work = {
        "encode": costs["encoder"].of(1),
        "denoise": contest.steps * costs["denoiser"].of(contest.samples),
        "decode": costs["decoder"].of(contest.samples),
    }
    rows = []
    for engine, stages in contest.stages.items():
        peak = next(peak for peak in contest.peaks if engine.endswith(peak.precision))
        whole = sum(stages.values())
        for stage, taken in stages.items():
            floor = peak.floor_ms(work[stage]) if stage in work else None
            rows.append((
                engine, stage, ms(taken), f"{taken / whole:.0%}",
                "-" if floor is None else ms(floor), "-" if floor is None else f"{taken / floor:.2f}x",
            ))  # fmt: skip
    header = ("engine", "stage", "p50 ms", "share", "floor ms", "over floor")
    return f"## Where the time goes\n\nStages of the end-to-end calls above, {contest.samples} samples, {contest.steps} steps.\n\n{table(header, rows)}"


def _starts(report: Report) -> str:
    starts, parts = report.starts, report.starts.parts
    rows = [_timed("first start, empty cache", starts.first), _timed("second start", starts.second)]
    split = ", ".join(
        f"{name} {ms(getattr(parts, name))}" for name in ("interpreter", "libraries", "engine", "networks", "own")
    )
    return (
        f"## From a standing start\n\n`medseg-infer examples/nodule-phantom.png` with its defaults ({starts.engine}), wall time of the process.\n\n"
        + table(("", "n", "min ms", "p50", "p90", "p95"), rows)
        + f"\n\nA second start in parts, ms: {split}. *Libraries* is importing numpy and Pillow, *engine* choosing, importing and loading it, *own* everything else: our modules and typer, "
        "masks, pictures, files, the end of the process."
    )  # fmt: skip


def _memory(report: Report) -> str:
    rows = [
        (m.bundle, m.engine, str(m.samples), f"{m.loaded_mib:.0f}", f"{m.peak_mib:.0f}", f"{m.peak_mib - m.loaded_mib:.0f}")
        for m in report.memory
    ]  # fmt: skip
    header = ("bundle", "engine", "N", "resident when loaded, MiB", "peak, MiB", "difference")
    return f"## Peak memory\n\nOf a fresh process that loads a bundle and segments one image.\n\n{table(header, rows)}"


def _agreement(report: Report) -> str:
    if not report.agreement:
        return "## Do the engines agree?\n\nNot run: there are no real images here (`--data`)."
    rows = [
        (a.engine, f"{a.probability_error:.2g}", f"{a.probability_error_p50:.2g}", f"{a.mask_dice:.4f}", f"{a.mask_dice_pooled:.4f}", f"{a.consensus_dice:.4f}")
        for a in report.agreement
    ]  # fmt: skip
    header = (
        "engine",
        "mean probability, largest difference",
        "median image",
        "mask Dice, mean",
        "mask Dice, pooled",
        "consensus Dice",
    )
    first = report.agreement[0]
    return f"## Do the engines agree?\n\nAgainst ONNX Runtime in float32: {first.images} val images, {first.samples} samples, the same noise.\n\n{table(header, rows)}"


def _folder(report: Report) -> str:
    if report.folder is None:
        return "## A folder of images\n\nNot run: there are no real images here (`--data`)."
    run = report.folder
    rows = [
        _seconds("`medseg-infer`, the process", run.command_ms, run.images),
        _seconds("its networks alone, warm", run.networks_ms, run.images),
    ]
    ratio = Ratio.of(run.command_ms, run.networks_ms)
    return (
        f"## A folder of images\n\n{run.images} val crops, {run.engine}, in turns: the command takes {ratio.p50:.2f} times as long as its networks.\n\n"
        + table(("", "n", "p50 s", "ms per image"), rows)
    )


def _seconds(name: str, milliseconds: Sequence[float], images: int) -> tuple[str, ...]:
    timing = Timing.of(milliseconds)
    return name, str(timing.n), f"{timing.p50 / 1e3:.1f}", ms(timing.p50 / images)


def _timed(name: str, timing: Timing) -> tuple[str, ...]:
    return name, str(timing.n), ms(timing.min), ms(timing.p50), ms(timing.p90), ms(timing.p95)
