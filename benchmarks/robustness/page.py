"""Page and curves of a report."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
from matplotlib.figure import Figure as Picture

from benchmarks.common.page import Page, Plot, Section
from benchmarks.common.tables import table
from benchmarks.robustness.faults import RIGHT, WRONG, Faults
from benchmarks.robustness.kills.trials import ORPHANS, Kills
from benchmarks.robustness.report import Report
from benchmarks.robustness.stream import Stream

SUBJECTS = {
    "folder": "`medseg-infer`, a folder of three images",
    "dicom": "`medseg-infer --dicom-seg`, one DICOM file",
    "first": "`medseg-infer` with an empty cache half the time: engines are compared and compiled",
    "training": "`medseg-train fit`, three small stages, forked after the imports",
    "export": "`medseg-export --force`, forked after the imports, its graphs made once before",
}
WHOLE = ("whole results", "whole bundles", "states saved")
"""What was found and read after the kills."""
FAULTS = {
    "disk": "mkdir, open for writing, fsync, rename: no space left on the device",
    "descriptors": "open, dup: too many open files",
    "threads": "no new thread can be started",
    "memory": "a call of a function of ours: MemoryError",
    "file_size": "the k-th 512 bytes of a file cannot be written",
}


def page(report: Report) -> Page:
    """Lay out a report."""
    return Page(
        kind="robustness",
        subject="lidc-nodule",
        title="Kills, failing calls, a long stream",
        record=report,
        data="noise, pydicom's CT_small and drawn discs: no image of a patient",
        seed=report.kills[0].seed,
        introduction=(
            (
                "Nothing here is a timing: other programs had most of the machine. Durations say what a repetition takes. Each part has its "
                "own command below; the command above puts their records together."
            ),
        ),
        plot=Plot("Memory, descriptors and threads over the stream", lambda: paint(report.stream)),
        sections=(_kills(report.kills), _faults(report.faults), _stream(report.stream)),
    )


def _kills(kills: Sequence[Kills]) -> Section:
    header = (
        "what runs",
        "kills",
        "KILL / TERM / INT",
        "runs to the end",
        "read whole",
        "left and removed",
        "faults",
        "minutes",
        "command",
    )
    return Section(
        "Kills",
        (
            (f"{sum(sum(part.killed.values()) for part in kills):,} runs were ended at a random moment between 5 % and 100 % of the time that an "
            "undisturbed one takes. After each, everything on the disk was read. Every few kills a run went to its end: it had to succeed, and "
            "to remove the hidden files and folders that killed runs had left, which were made to look two days old. Where fewer were killed "
                "than a command names, the same command goes on."),
            table(header, [_kill_row(part) for part in kills]),
            *(f"Faults looked for, {SUBJECTS[part.subject]}: {_counted(part.faults)}." for part in kills),
        ),
    )  # fmt: skip


def _kill_row(part: Kills) -> tuple[str, ...]:
    signals = [part.killed.get(name, 0) for name in ("SIGKILL", "SIGTERM", "SIGINT")]
    return (
        SUBJECTS[part.subject],
        f"{sum(signals):,}",
        " / ".join(map(str, signals)),
        str(part.found["runs to the end"]),
        ", ".join(f"{part.found[name]:,} {name.partition(' ')[2]}" for name in WHOLE if name in part.found),
        str(part.found.get(ORPHANS, 0)),
        str(sum(part.faults.values())),
        f"{part.seconds / 60:.0f}",
        f"`{part.command}`",
    )


def _counted(faults: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in faults.items())


def _faults(faults: Sequence[Faults]) -> Section:
    header = ("what fails the k-th time", "values of k", *RIGHT, *WRONG, "seconds", "command")
    rows = [
        (
            FAULTS[part.kind],
            f"{sum(part.outcomes.values()):,}",
            *(f"{part.outcomes.get(outcome, 0):,}" for outcome in (*RIGHT, *WRONG)),
            f"{part.seconds:.0f}",
            f"`{part.command}`",
        )
        for part in faults
    ]
    return Section(
        "The k-th call fails",
        (
            (
                "`medseg-infer --dicom-seg` on one DICOM file, once for each k, or each so-many-th with `--every`, until no call fails any more. It ends with a whole result, or with one "
                "error line and nothing on the disk; with both, if the call came after the result was published."
            ),
            table(header, rows),
        ),
    )


def _stream(stream: Stream) -> Section:
    resident, proportional = stream.resident_mib, stream.proportional_mib
    settled = len(resident) // 10
    rows = [
        ("images", f"{stream.images[-1]:,}, of them {sum(stream.errors.values()):,} damaged: {_counted(stream.errors)}"),
        ("resident memory after a tenth, at the end, at most", f"{resident[settled]} / {resident[-1]} / {max(resident)} MiB"),
        ("proportional memory after a tenth, at the end", f"{proportional[settled]} / {proportional[-1]} MiB"),
        ("slope after a tenth", f"{stream.mib_per_1000_images()} MiB per 1,000 images"),
        ("descriptors, least and most", f"{min(stream.descriptors)} / {max(stream.descriptors)}"),
        ("threads, least and most", f"{min(stream.threads)} / {max(stream.threads)}"),
        ("minutes", f"{stream.seconds / 60:.0f}"),
        ("command", f"`{stream.command}`"),
    ]  # fmt: skip
    return Section("A long stream", ("One process, ONNX Runtime with one thread.", table(("figure", "value"), rows)))


def paint(stream: Stream) -> Picture:
    """Draw memory, descriptors and threads over the number of images."""
    picture, axes = plt.subplots(3, 1, figsize=(7, 6.5), sharex=True, layout="constrained")
    axes[0].plot(stream.images, stream.resident_mib, label="resident")
    axes[0].plot(stream.images, stream.proportional_mib, label="proportional")
    axes[0].set(ylabel="memory (MiB)", ylim=(0, 1.2 * max(stream.resident_mib)))
    axes[0].legend(loc="lower right")
    axes[1].plot(stream.images, stream.descriptors)
    axes[1].set(ylabel="open descriptors", ylim=(0, 1.2 * max(stream.descriptors)))
    axes[2].plot(stream.images, stream.threads)
    axes[2].set(ylabel="threads", ylim=(0, 1.2 * max(stream.threads)), xlabel="images")
    return picture
