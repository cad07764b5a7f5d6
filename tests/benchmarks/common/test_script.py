"""One-line errors, and the command line that a page quotes."""

import argparse
from pathlib import Path

import pytest

from benchmarks.common.script import command_line, one_line_errors
from medseg_runtime.errors import DataError


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (DataError("there is no folder 'x'", "Give another."), 1, "a script: error: there is no folder 'x'. Give another.\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)  # fmt: skip
def test_an_error_of_this_project_is_one_line(error, code, line, capsys):
    with pytest.raises(SystemExit) as caught, one_line_errors("a script"):
        raise error
    assert (caught.value.code, capsys.readouterr().err) == (code, line)


def test_a_command_line_has_the_changed_options_and_no_path():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("results"))
    parser.add_argument("--steps", type=int, nargs="+", default=(1, 2))
    parser.add_argument("--cpu-minutes", type=float, default=20.0)
    parser.add_argument("--images", type=int)
    parser.add_argument("--even-if-busy", action="store_true")
    given = parser.parse_args(
        ["--data", "/home/me/data", "--out", "elsewhere", "--steps", "1", "4", "--cpu-minutes", "3", "--even-if-busy"]
    )
    assert (
        command_line("python -m x", parser, given)
        == "python -m x --data DATA --steps 1 4 --cpu-minutes 3.0 --even-if-busy"
    )
