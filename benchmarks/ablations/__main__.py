"""python -m benchmarks.ablations train NAME: train one variant; the same again goes on after an interruption.

python -m benchmarks.ablations evaluate STUDY    measure all of it that are trained, and write JSON, page and plot
python -m benchmarks.ablations page FILE.json    write page and plot of an earlier evaluation again
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.ablations.measure import evaluate
from benchmarks.ablations.page import page
from benchmarks.ablations.plot import plot
from benchmarks.ablations.recipe import RECIPE
from benchmarks.ablations.report import Report
from benchmarks.ablations.train import is_finished, train
from benchmarks.ablations.tuning import TUNING
from benchmarks.latency import machine
from benchmarks.script import one_line_errors

ROOT = Path(__file__).parents[2]
PROGRAM = "python -m benchmarks.ablations"
STUDIES = {"tuning": TUNING, "recipe": RECIPE}
VARIANTS = TUNING.variants | RECIPE.variants


def main() -> None:
    """Run the command."""
    arguments = _parser().parse_args()
    with one_line_errors(PROGRAM):
        arguments.run(arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("train", help="; ".join(f"{name}: {variant.what}" for name, variant in VARIANTS.items()))
    one.add_argument("name", choices=list(VARIANTS))
    one.add_argument("--start", type=Path, help="run folder with the flow model's weights, for what tunes them")
    one.add_argument("--out", type=Path, help="run folder; default: runs/ablations/NAME")
    one.set_defaults(run=_train)
    several = commands.add_parser("evaluate")
    several.add_argument("study", choices=list(STUDIES))
    several.add_argument(
        "--runs", type=Path, default=Path("runs/ablations"), help="folder of the variants' run folders"
    )
    several.add_argument("--images", type=int, default=200)
    several.add_argument("--samples", type=int, default=16)
    several.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    several.set_defaults(run=_evaluate)
    for reads in (one, several):
        reads.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="with lidc-*.zip")
    again = commands.add_parser("page")
    again.add_argument("json", type=Path)
    again.set_defaults(run=lambda arguments: publish(Report.read(arguments.json), arguments.json.parent))
    return parser


def _train(arguments: argparse.Namespace) -> None:
    name: str = arguments.name
    out = arguments.out or Path("runs/ablations") / name
    train(VARIANTS[name], arguments.start, arguments.data, out, command=f"{PROGRAM} train {name}")


def _evaluate(arguments: argparse.Namespace) -> None:
    study = STUDIES[arguments.study]
    trained = {name: arguments.runs / name for name in study.variants if is_finished(arguments.runs / name)}
    if missing := study.variants.keys() - trained.keys():
        print(f"not trained to the end, and left out: {', '.join(sorted(missing))}", file=sys.stderr)
    report = evaluate(
        study,
        trained,
        arguments.data,
        machine.look(ROOT),
        images=arguments.images,
        samples=arguments.samples,
        command=f"{PROGRAM} evaluate {arguments.study} --images {arguments.images} --samples {arguments.samples}",
    )
    arguments.out.mkdir(parents=True, exist_ok=True)
    report.write(arguments.out / f"{report.stem}.json")
    publish(report, arguments.out)


def publish(report: Report, folder: Path) -> None:
    """Write the page and the plot."""
    (folder / f"{report.stem}.md").write_text(page(report), encoding="utf-8")
    plot(report, folder / f"{report.stem}.png")
    print(folder / f"{report.stem}.md")


if __name__ == "__main__":
    main()
