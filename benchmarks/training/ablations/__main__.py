"""Train the variants of a study, then measure them.

python -m benchmarks.training.ablations train NAME        train one variant; the same command resumes it
python -m benchmarks.training.ablations evaluate STUDY    measure its trained variants and write the page
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.common.machine import inspect_machine
from benchmarks.common.page import RESULTS
from benchmarks.common.script import DATA, one_line_errors
from benchmarks.training.ablations.measure import evaluate
from benchmarks.training.ablations.page import page
from benchmarks.training.ablations.recipe import RECIPE
from benchmarks.training.ablations.train import is_finished, train
from benchmarks.training.ablations.tuning import TUNING

PROGRAM = "python -m benchmarks.training.ablations"
RUNS = Path("runs/ablations")
STUDIES = {"tuning": TUNING, "recipe": RECIPE}
VARIANTS = TUNING.variants | RECIPE.variants


def main() -> None:
    """Run the command."""
    given = _parser().parse_args()
    with one_line_errors(PROGRAM):
        given.run_command(given)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    training = commands.add_parser(
        "train", help="; ".join(f"{name}: {variant.what}" for name, variant in VARIANTS.items())
    )
    training.add_argument("name", choices=list(VARIANTS))
    training.add_argument("--start", type=Path, help="run folder with a trained flow model, for variants that tune it")
    training.add_argument("--out", type=Path, help="run folder; default: runs/ablations/NAME")
    training.set_defaults(run_command=_train)
    evaluation = commands.add_parser("evaluate")
    evaluation.add_argument("study", choices=list(STUDIES))
    evaluation.add_argument("--runs", type=Path, default=RUNS, help="folder of the variants' run folders")
    evaluation.add_argument("--images", type=int, default=200)
    evaluation.add_argument("--samples", type=int, default=16)
    evaluation.add_argument("--out", type=Path, default=RESULTS)
    evaluation.set_defaults(run_command=_evaluate)
    for command in (training, evaluation):
        command.add_argument("--data", type=Path, default=DATA, help="folder with lidc-*.zip")
    return parser


def _train(given: argparse.Namespace) -> None:
    out = given.out or RUNS / given.name
    train(VARIANTS[given.name], given.start, given.data, out, command=f"{PROGRAM} train {given.name}")


def _evaluate(given: argparse.Namespace) -> None:
    study = STUDIES[given.study]
    trained = {name: given.runs / name for name in study.variants if is_finished(given.runs / name)}
    if missing := study.variants.keys() - trained.keys():
        print(f"left out, because their training is not finished: {', '.join(sorted(missing))}", file=sys.stderr)
    report = evaluate(
        study,
        trained,
        given.data,
        inspect_machine(),
        images=given.images,
        samples=given.samples,
        command=f"{PROGRAM} evaluate {given.study} --images {given.images} --samples {given.samples}",
    )
    print(page(report).write(given.out))


if __name__ == "__main__":
    main()
