"""Baselines on the same split: train them, then measure them beside a bundle.

python -m benchmarks.baselines train unet --data DATA                # 20 CPU minutes; again: goes on, or is done
python -m benchmarks.baselines train probabilistic-unet --data DATA  # as long
python -m benchmarks.baselines train fast --data DATA                # our own recipe, as long
python -m benchmarks.baselines train paper --data DATA               # the paper's, as long
python -m benchmarks.baselines masks --data DATA --run RUN           # the mask autoencoder of a run against one trained by MSE
python -m benchmarks.baselines evaluate --data DATA                  # all of them beside the shipped bundle; writes the page
python -m benchmarks.baselines page FILE.json                        # page and plot of an earlier run again
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.baselines import masks
from benchmarks.baselines.budget import CPU_MINUTES
from benchmarks.baselines.contenders import CONTENDERS
from benchmarks.baselines.contest import MASKS_NAME, Question, hold
from benchmarks.baselines.own import OWN, train_own
from benchmarks.baselines.page import page
from benchmarks.baselines.plot import plot
from benchmarks.baselines.report import Report
from benchmarks.baselines.training import train
from benchmarks.latency import machine
from benchmarks.script import one_line_errors
from medseg_trainer.config.presets import fast

ROOT = Path(__file__).parents[2]
RUNS = ROOT / "runs" / "baselines"
RESULTS = ROOT / "benchmarks" / "results"


def main() -> None:
    """Run the command."""
    arguments = _parser().parse_args()
    with one_line_errors("benchmarks.baselines"):
        arguments.run_command(arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    with_data = argparse.ArgumentParser(add_help=False)
    with_data.add_argument("--data", type=Path, required=True)
    with_data.add_argument("--runs", type=Path, default=RUNS, help="folder of the baselines' run folders")

    training = commands.add_parser("train", parents=[with_data])
    training.add_argument("contender", choices=[*CONTENDERS, *OWN])
    training.add_argument(
        "--cpu-minutes", type=float, default=CPU_MINUTES, help="processor time for its steps; validation comes on top"
    )
    training.set_defaults(run_command=_train)

    of_masks = commands.add_parser("masks", parents=[with_data])
    of_masks.add_argument("--run", type=Path, required=True, help="a run of `medseg-train fit fast`")
    of_masks.set_defaults(run_command=_masks)

    evaluation = commands.add_parser("evaluate", parents=[with_data])
    evaluation.add_argument("--bundle", type=Path)
    evaluation.add_argument("--images", type=int, help="only so many, evenly spaced")
    evaluation.add_argument("--seed", type=int, default=0)
    evaluation.add_argument("--out", type=Path, default=RESULTS)
    evaluation.set_defaults(run_command=_evaluate)

    again = commands.add_parser("page")
    again.add_argument("report", type=Path, metavar="FILE.json")
    again.set_defaults(run_command=lambda given: publish(Report.read(given.report), given.report.parent))
    return parser


def _train(given: argparse.Namespace) -> None:
    out = given.runs / given.contender
    if given.contender in OWN:
        train_own(OWN[given.contender], given.data, out, given.cpu_minutes)
    else:
        train(CONTENDERS[given.contender], fast(), given.data, out, given.cpu_minutes)


def _masks(given: argparse.Namespace) -> None:
    command = "python -m benchmarks.baselines masks --data DATA --run RUN"
    contest = masks.compare(given.run, given.data, given.runs / "masks-mse", command)
    contest.write(given.runs / MASKS_NAME)
    for row in contest.rows:
        found = row.dice["difference"]
        print(f"noise {row.noise:g}, {row.sizes}: Dice {found.mean:+.4f} ({found.low:+.4f} to {found.high:+.4f})")


def _evaluate(given: argparse.Namespace) -> None:
    options = "".join(f" --{name} {value}" for name, value in (("images", given.images), ("seed", given.seed)) if value)
    question = Question(
        bundle=given.bundle,
        data=given.data,
        runs=given.runs,
        images=given.images,
        seed=given.seed,
        command=f"python -m benchmarks.baselines evaluate --data DATA{' --bundle BUNDLE' * bool(given.bundle)}{options}",
    )
    report = hold(question, machine.look(ROOT))
    given.out.mkdir(parents=True, exist_ok=True)
    report.write(given.out / f"{report.stem}.json")
    publish(report, given.out)


def publish(report: Report, folder: Path) -> None:
    """Write the page and the plot."""
    (folder / f"{report.stem}.md").write_text(page(report), encoding="utf-8")
    plot(report, folder / f"{report.stem}.png")
    print(folder / f"{report.stem}.md")


if __name__ == "__main__":
    main()
