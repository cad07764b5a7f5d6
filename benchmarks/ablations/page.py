"""A report as a page for readers: Markdown."""

from __future__ import annotations

from benchmarks.ablations.report import SHOWN, Report, Row
from benchmarks.accuracy import named
from benchmarks.tables import table, with_interval


def page(report: Report) -> str:
    """Return the page as Markdown."""
    return "\n\n".join((
        f"# {report.stem}",
        _head(report),
        f"## Figures\n\n{_figures(report)}",
        f"## Less `{report.reference}`, image by image\n\n{_differences(report)}",
        f"![GED of each variant, and its difference to {report.reference}]({report.stem}.png)",
        f"## How each was trained\n\n{_trainings(report)}",
    )) + "\n"  # fmt: skip


def _head(report: Report) -> str:
    machine, first = report.machine, report.rows[0].training
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items() if version != "absent")
    start = f" sha256 of the weights that all start from: {first.start_sha256[:12]}." * bool(first.start_sha256)
    return "\n\n".join((
        (f"{report.about}{start} One run and one seed of each: an interval says how the figure would differ with other patients, not with another seed."),
        (f"{report.images:,} evenly spaced images of {report.groups} patients of the split `val`, {report.samples} samples, seed {report.seed}, torch in float32. "
         "Intervals: 95 %, bootstrap over patients. S: sampling steps."),
        (f"`{report.command}`, {report.date}. {machine.processor}, {machine.cores} cores, {', '.join(machine.features)}, {machine.memory_gib} GiB; "
         f"{machine.system}; Python {machine.python}; {versions}; commit {machine.commit}."),
    ))  # fmt: skip


def _figures(report: Report) -> str:
    rows = [
        (row.variant, row.what, str(row.steps), named(row.noise), *(with_interval(f) for f in row.figures.values()))
        for row in report.rows
    ]
    diversity, empty = (report.raters[name] for name in ("rater_diversity", "empty_raters"))
    raters = {"sample_diversity": with_interval(diversity), "empty_samples": with_interval(empty)}
    shown = report.rows[0].figures
    rows.append(("raters", "what a perfect model would have", "", "", *(raters.get(name, "") for name in shown)))
    return table(("variant", "what", "S", "noise", *(SHOWN[name] for name in shown)), rows)


def _differences(report: Report) -> str:
    shown = {name: SHOWN[name] for name in report.rows[0].figures if name != "ece"}
    rows = [
        (row.title, row.verdict or "", *(with_interval(row.difference.get(name), "+") for name in shown))
        for row in report.rows
        if row.difference
    ]
    return (
        table(("variant", "by GED", *shown.values()), rows)
        + "\n\nBy GED: better or worse where the interval of the difference leaves zero out."
    )


def _trainings(report: Report) -> str:
    rows = [_trained(row) for row in report.rows if row.trained_steps]
    header = (
        "variant",
        "command",
        "steps",
        "images x masks",
        "learning rate",
        "seed",
        "kept step",
        "CPU minutes",
        "on",
    )
    return table(header, dict.fromkeys(rows))


def _trained(row: Row) -> tuple[str, ...]:
    done = row.training
    return (
        row.variant, f"`{done.command}`", str(row.trained_steps), f"{row.images} x {row.masks}", f"{row.learning_rate:g}",
        str(done.seed), str(row.kept_step), f"{done.cpu_seconds / 60:.1f}", done.processor,
    )  # fmt: skip
