"""Sections of a latency page: stages, starts, memory, agreement and folder."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.common.page import Section
from benchmarks.common.tables import format_ms, table
from benchmarks.latency.report import Report
from benchmarks.latency.timing import Ratio, Timing

NO_IMAGES = "Not run: there are no real images here (`--data`)."


def where_time_goes(report: Report) -> Section:
    """Return the stages of an end-to-end call, and their floors."""
    contest, costs = report.contest, report.shipped.costs
    work = {
        "encode": costs["encoder"].of(1),
        "denoise": contest.steps * costs["denoiser"].of(contest.samples),
        "decode": costs["decoder"].of(contest.samples),
    }
    rows = []
    for backend, stages in contest.stages.items():
        peak = next(peak for peak in contest.peaks if backend.endswith(peak.precision))
        whole = sum(stages.values())
        for stage, taken in stages.items():
            floor = peak.floor_ms(work[stage]) if stage in work else None
            rows.append((
                backend, stage, format_ms(taken), f"{taken / whole:.0%}",
                "-" if floor is None else format_ms(floor), "-" if floor is None else f"{taken / floor:.2f}x",
            ))  # fmt: skip
    about = f"Stages of the end-to-end calls above, {contest.samples} samples, {contest.steps} steps."
    header = ("backend", "stage", "p50 ms", "share", "floor ms", "over floor")
    return Section("Where the time goes", (about, table(header, rows)))


def starts(report: Report) -> Section:
    """Return the wall time of whole processes."""
    starts, parts = report.starts, report.starts.parts
    rows = [("first start, empty cache", *starts.first.cells()), ("second start", *starts.second.cells())]
    split = ", ".join(
        f"{name} {format_ms(getattr(parts, name))}"
        for name in ("interpreter", "libraries", "backend", "networks", "own")
    )
    return Section(
        "Starting the command",
        (
            f"`medseg-infer examples/nodule-phantom.png` with its defaults ({starts.backend}), wall time of the process.",
            table(("", "n", "min ms", "p50", "p90", "p95"), rows),
            (
                f"Parts of a second start, ms: {split}. *libraries*: importing numpy and Pillow. *backend*: selecting, importing and loading it. "
                "*own*: everything else, such as our modules, typer, masks, pictures, files and the exit."
            ),
        ),
    )


def memory(report: Report) -> Section:
    """Return the peak memory of fresh processes."""
    rows = [
        (m.bundle, m.backend, str(m.samples), f"{m.loaded_mib:.0f}", f"{m.peak_mib:.0f}", f"{m.peak_mib - m.loaded_mib:.0f}")
        for m in report.memory
    ]  # fmt: skip
    header = ("bundle", "backend", "N", "resident when loaded, MiB", "peak, MiB", "difference")
    return Section(
        "Peak memory", ("Of a fresh process that loads a bundle and segments one image.", table(header, rows))
    )


def agreement(report: Report) -> Section:
    """Return the differences between backends."""
    title = "Agreement of the backends"
    if not report.agreement:
        return Section(title, (NO_IMAGES,))
    rows = [
        (a.backend, f"{a.probability_error:.2g}", f"{a.probability_error_p50:.2g}", f"{a.mask_dice:.4f}", f"{a.mask_dice_pooled:.4f}", f"{a.consensus_dice:.4f}")
        for a in report.agreement
    ]  # fmt: skip
    header = (
        "backend",
        "mean probability, largest difference",
        "median image",
        "mask Dice, mean",
        "mask Dice, pooled",
        "consensus Dice",
    )
    first = report.agreement[0]
    about = f"Against ONNX Runtime in float32: {first.images} val images, {first.samples} samples each, from the same noise."
    return Section(title, (about, table(header, rows)))


def folder(report: Report) -> Section:
    """Return the time of the command on a folder of images."""
    title, run = "A folder of images", report.folder
    if run is None:
        return Section(title, (NO_IMAGES,))
    rows = [
        _seconds("`medseg-infer`, the process", run.command_ms, run.images),
        _seconds("its networks alone, warm", run.networks_ms, run.images),
    ]
    ratio = Ratio.of(run.command_ms, run.networks_ms)
    about = f"{run.images} val crops, {run.backend}, in turns: the command takes {ratio.p50:.2f} times as long as its networks."
    return Section(title, (about, table(("", "n", "p50 s", "ms per image"), rows)))


def _seconds(name: str, milliseconds: Sequence[float], images: int) -> tuple[str, ...]:
    timing = Timing.of(milliseconds)
    return name, str(timing.n), f"{timing.p50 / 1e3:.1f}", format_ms(timing.p50 / images)
