"""Train the baselines on the same split, and compare them with a bundle.

python -m benchmarks.training.baselines train unet --data DATA                # 20 CPU minutes; the same command resumes it
python -m benchmarks.training.baselines train probabilistic-unet --data DATA
python -m benchmarks.training.baselines train fast --data DATA                # our preset in the same time
python -m benchmarks.training.baselines train paper --data DATA               # the paper's recipe in the same time
python -m benchmarks.training.baselines masks --data DATA --run RUN           # a run's mask autoencoder against one trained by MSE
python -m benchmarks.training.baselines evaluate --data DATA                  # all of them beside the shipped bundle; writes the page
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.common.machine import inspect_machine
from benchmarks.common.page import RESULTS
from benchmarks.common.script import ROOT, one_line_errors
from benchmarks.training.baselines import masks
from benchmarks.training.baselines.budget import CPU_MINUTES
from benchmarks.training.baselines.contenders import CONTENDERS
from benchmarks.training.baselines.contest import MASKS_NAME, ContestSettings, run_contest
from benchmarks.training.baselines.page import page
from benchmarks.training.baselines.presets import OWN_PRESETS, train_preset
from benchmarks.training.baselines.training import train
from medseg_trainer.config.presets import fast

PROGRAM = "python -m benchmarks.training.baselines"
RUNS = ROOT / "runs" / "baselines"


def main() -> None:
    """Run the command."""
    given = _parser().parse_args()
    with one_line_errors(PROGRAM):
        given.run_command(given)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    with_data = argparse.ArgumentParser(add_help=False)
    with_data.add_argument("--data", type=Path, required=True)
    with_data.add_argument("--runs", type=Path, default=RUNS, help="folder of the baselines' run folders")

    training = commands.add_parser("train", parents=[with_data])
    training.add_argument("contender", choices=[*CONTENDERS, *OWN_PRESETS])
    training.add_argument(
        "--cpu-minutes", type=float, default=CPU_MINUTES, help="processor time for the steps; validation is extra"
    )
    training.set_defaults(run_command=_train)

    of_masks = commands.add_parser("masks", parents=[with_data])
    of_masks.add_argument("--run", type=Path, required=True, help="run folder of `medseg-train fit fast`")
    of_masks.set_defaults(run_command=_masks)

    evaluation = commands.add_parser("evaluate", parents=[with_data])
    evaluation.add_argument("--bundle", type=Path, help="default: the shipped bundle")
    evaluation.add_argument("--images", type=int, help="number of evenly spaced val images; default: all")
    evaluation.add_argument("--seed", type=int, default=0)
    evaluation.add_argument("--out", type=Path, default=RESULTS)
    evaluation.set_defaults(run_command=_evaluate)
    return parser


def _train(given: argparse.Namespace) -> None:
    out = given.runs / given.contender
    if given.contender in OWN_PRESETS:
        train_preset(OWN_PRESETS[given.contender], given.data, out, given.cpu_minutes)
    else:
        train(CONTENDERS[given.contender], fast(), given.data, out, given.cpu_minutes)


def _masks(given: argparse.Namespace) -> None:
    command = f"{PROGRAM} masks --data DATA --run RUN"
    found = masks.compare(given.run, given.data, given.runs / "masks-mse", command)
    found.write(given.runs / MASKS_NAME)
    for row in found.rows:
        dice = row.dice["difference"]
        print(f"noise {row.noise:g}, {row.sizes}: Dice {dice.mean:+.4f} ({dice.low:+.4f} to {dice.high:+.4f})")


def _evaluate(given: argparse.Namespace) -> None:
    options = "".join(f" --{name} {value}" for name, value in (("images", given.images), ("seed", given.seed)) if value)
    settings = ContestSettings(
        bundle=given.bundle,
        data=given.data,
        runs=given.runs,
        images=given.images,
        seed=given.seed,
        command=f"{PROGRAM} evaluate --data DATA{' --bundle BUNDLE' * bool(given.bundle)}{options}",
    )
    print(page(run_contest(settings, inspect_machine())).write(given.out))


if __name__ == "__main__":
    main()
