"""medseg-compare: how a finding changed between two results.

two result folders => sizes of sample k in both => ratios => what they say, on stdout
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from medseg_runtime.commands.program import run_command, say, warn

if TYPE_CHECKING:
    from medseg_runtime.commands.recorded_result import RecordedResult
    from medseg_runtime.result.growth import Growth

PROGRAM = "medseg-compare"

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def main() -> NoReturn:
    """Run the command."""
    run_command(app, PROGRAM, extras="cpu")


@app.command()
def compare(
    before: Annotated[Path, typer.Argument(metavar="BEFORE", help="Result folder of the earlier image or series.")],
    after: Annotated[
        Path, typer.Argument(metavar="AFTER", help="Result folder of the later one, of the same finding.")
    ],
    days: Annotated[
        float | None,
        typer.Option(
            help="Days between the two, for the doubling time. Results hold no dates: they hold nothing that identifies a patient."
        ),
    ] = None,
    growth: Annotated[float, typer.Option(help="Percent that count as growth.")] = 25.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON.")] = False,
) -> None:
    """Compare the volumes of one finding at two dates, or its areas if both results are of one slice.

    Sample k of both results is the same hypothesis if both were drawn with the same model and options. The ratio of their sizes has
    a distribution over the samples.

    Research software, not a medical device.
    """
    from medseg_runtime.commands.recorded_result import read_result
    from medseg_runtime.errors import ParameterError
    from medseg_runtime.result.growth import compare as compared

    first, second = read_result(before), read_result(after)
    if set(first.input_sha256) & set(second.input_sha256):
        raise ParameterError("both results are of the same image", "Give results of two dates.")
    growths = compared(first.finding, second.finding, days=days, growth_percent=growth)
    warnings = list(_warnings(first, second, growths))
    for warning in warnings:
        warn(PROGRAM, warning)
    lines = [json.dumps(_record(growths, warnings), allow_nan=False)] if as_json else _lines(growths)
    for line in lines:
        say(line)


def _warnings(before: RecordedResult, after: RecordedResult, growths: Sequence[Growth]) -> Iterator[str]:
    for when, result in (("before", before), ("after", after)):
        yield from (f"{when}: {warning}" for warning in result.warnings)
    if before.engine != after.engine:
        yield f"{before.engine} computed one result and {after.engine} the other: edges may differ by a pixel here and there"
    for each in growths:
        count = len(each.before)
        if len(each.ratio) < count:
            yield (
                f"{len(each.ratio)} of {count} pairs of samples show {each.class_name} in both results, and the ratio is theirs: "
                f"in {each.appeared} it appears, in {each.vanished} it vanishes, in {each.absent} it is in neither"
            )


def _lines(growths: Sequence[Growth]) -> Iterator[str]:
    from medseg_runtime.result.measurement_record import said

    for each in growths:
        if not len(each.ratio):
            yield f"{each.class_name}: no pair of samples shows it in both results"
            continue
        yield f"{each.class_name}: {each.size}, median and 5th to 95th percentile of {len(each.ratio)} pairs of samples"
        for title, found in (("before", each.before), ("after", each.after)):
            yield f"  {title:<28}{said(found.present)}"
        yield f"  {'ratio':<28}{each.ratio.median:.2f} ({each.ratio.low:.2f} to {each.ratio.high:.2f})"
        yield f"  {f'grown by more than {each.growth_percent:g} %':<28}{each.share_grown:.0%} of the pairs"
        if each.days is not None:
            median, fast, slow = (each.doubling_time_days(percent) for percent in (50, 95, 5))
            yield f"  {'doubling time':<28}{_days(median)} ({_days(fast)} to {_days(slow)})"


def _days(days: float) -> str:
    return f"{days:.0f} days" if math.isfinite(days) else "no growth"


def _record(growths: Sequence[Growth], warnings: Sequence[str]) -> dict[str, Any]:
    from medseg_runtime.result.measurement_record import distribution_record
    from medseg_runtime.result.summary import NOTICE, rounded

    return {
        "notice": f"{NOTICE}.",
        "classes": [
            {
                "class": each.class_name,
                "size": each.size,
                "before": distribution_record(each.before),
                "after": distribution_record(each.after),
                "ratio": distribution_record(each.ratio),
                "pairs": {
                    "both": len(each.ratio),
                    "appeared": each.appeared,
                    "vanished": each.vanished,
                    "absent": each.absent,
                },
                "growth_percent": each.growth_percent,
                "share_grown": rounded(each.share_grown, 6),
                "days": each.days,
                "doubling_time_days": {
                    f"of_ratio_p{percent}": rounded(each.doubling_time_days(percent)) for percent in (5, 50, 95)
                },
            }
            for each in growths
        ],
        "warnings": list(warnings),
    }
