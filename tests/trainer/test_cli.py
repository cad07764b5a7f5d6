"""The command medseg-train."""

import json
import sys
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from medseg_trainer import cli
from medseg_trainer.config.presets import PRESETS
from medseg_trainer.config.run import TrainConfig
from medseg_trainer.training.run_folder import RunFolder
from tests.trainer.data.own_folder import build, pairs
from tests.trainer.presets import EVERY_PRESET


def test_evaluate_writes_its_results_into_the_run(micro_run, phantom_zips, tmp_path):
    import shutil

    from medseg_trainer.cli import evaluate as command

    run = shutil.copytree(micro_run, tmp_path / "run")
    command(Path(run), phantom_zips, samples=2, images=2)
    written = json.loads((run / "evaluation.json").read_text())
    assert (written["images"], written["kept"]) == (2, RunFolder(run).kept())
    assert written["command"].startswith("medseg-train evaluate RUN --data DATA --split val")
    assert sum(point["pixels"] for point in written["reliability"]) > 0
    with Image.open(run / "evaluation.png") as sheet:
        assert sheet.width > sheet.height / 3 > 200


@pytest.mark.parametrize("name", ["absent/figures.json", "figures.png", "."])
def test_an_output_that_cannot_be_written_is_refused_before_anything_is_measured(
    name, micro_run, phantom_zips, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("medseg_trainer.evaluation.evaluate.evaluate", lambda *_, **__: pytest.fail("it measured"))
    out = tmp_path / name
    command = ["medseg-train", "evaluate", micro_run, "--data", phantom_zips, "--out", out]
    monkeypatch.setattr(sys, "argv", list(map(str, command)))
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 1
    assert capsys.readouterr().err.endswith("Give --out a .json file in a folder that you may write to.\n")


@pytest.fixture
def medseg_train(run_command):
    """medseg_train(*arguments) -> (exit code, stdout, stderr)."""
    return partial(run_command, cli.main, "medseg-train")


@EVERY_PRESET
def test_show_prints_what_from_json_reads(preset, medseg_train):
    code, out, _ = medseg_train("show", preset)
    assert code == 0
    assert TrainConfig.from_json(out) == PRESETS[preset]()


def test_show_lists_the_presets(medseg_train):
    code, out, _ = medseg_train("show")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == list(PRESETS)
    assert all(line.endswith(".") for line in out.splitlines())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("show", "huge"), "there is no preset 'huge'. Use one of: fast, paper, photo, isic, cvc, tiny."),
        (("fit", "huge", "--data", ".", "--out", "run"), "there is no preset 'huge'"),
        (("fit", "tiny", "--data", "absent", "--out", "run"), "there is no folder 'absent'. Give --data"),
        (("evaluate", "absent", "--data", "."), "'absent' is neither a run nor a bundle. Give a folder"),
    ],
    ids=["show", "fit", "no data", "evaluate"],
)
def test_our_errors_are_one_line_and_exit_code_1(arguments, message, medseg_train, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = medseg_train(*arguments)
    assert (code, out) == (1, "")
    assert err.splitlines()[-1].startswith(f"medseg-train: error: {message}")
    assert "Traceback" not in err


def test_fit_takes_classes_raters_and_seed(medseg_train, monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(
        "medseg_trainer.training.loop.fit", lambda *arguments, **named: seen.append((*arguments, named))
    )
    options = ("--classes", "core, rim", "--raters", "2", "--seed", "5")
    assert medseg_train("fit", "fast", "--data", tmp_path, "--out", tmp_path / "run", *options)[0] == 0
    ((config, data, out, named),) = seen
    assert (config.classes, config.raters, config.seed, config.num_logits) == (("core", "rim"), 2, 5, 3)
    assert config.denoiser.raters_per_image == 2  # no more than there are
    assert (data, out) == (tmp_path, tmp_path / "run")
    assert str(tmp_path) not in named["command"]  # the record is published with the weights
    assert all(option in named["command"] for option in ("fit fast", "--classes 'core, rim'", "--raters 2", "--seed 5"))


def test_an_interrupt_exits_with_130(medseg_train, monkeypatch, tmp_path):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("medseg_trainer.training.loop.fit", interrupted)
    code, _, err = medseg_train("fit", "tiny", "--data", tmp_path, "--out", tmp_path / "run")
    assert code == 130
    assert "Traceback" not in err


def test_without_torch_the_command_names_the_extra(medseg_train, monkeypatch):
    def missing(*_):
        raise ModuleNotFoundError(name="torch")

    monkeypatch.setattr(cli, "_preset", missing)
    code, _, err = medseg_train("show", "tiny")
    assert code == 1
    assert "torch is not installed. Run `pip install 'medseglatdiff[train]'`." in err


@pytest.fixture
def own_data(tmp_path):
    return build(tmp_path / "data", pairs(*[f"p{k // 2}/{k}" for k in range(20)]), None)


def test_split_then_check(own_data, medseg_train, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    code, out, _ = medseg_train("split", own_data, "--val", "0.2", "--test", "0.1")
    assert code == 0
    assert "grouped by the folder" in out
    assert medseg_train("split", own_data)[0] == 1
    assert medseg_train("split", own_data, "--force", "--group", "[0-9]+$")[0] == 0
    code, out, err = medseg_train("check", own_data)
    assert (code, "problem" in out, "error" in err) == (0, False, False)
    with Image.open("check.png") as sheet:
        assert sheet.width > 1000


def test_check_lists_each_problem_and_fails(own_data, medseg_train, tmp_path):
    medseg_train("split", own_data)
    for number in (4, 7):
        (own_data / f"masks/p{number // 2}/{number}.png").write_bytes(b"damaged")
    code, out, err = medseg_train("check", own_data, "--out", tmp_path / "sheet.png")
    assert code == 1
    assert [line.partition(" is not a mask")[0] for line in out.splitlines() if "problem:" in line] == [
        "problem: masks/p2/4.png",
        "problem: masks/p3/7.png",
    ]
    assert err.endswith("error: a training would refuse 2 of these. Mend the problems listed above.\n")
    assert (tmp_path / "sheet.png").exists()


@pytest.mark.parametrize("classes", ["polyp,", "polyp,polyp", ""])
def test_check_refuses_the_classes_that_a_training_refuses(classes, own_data, medseg_train):
    medseg_train("split", own_data)
    code, out, err = medseg_train("check", own_data, "--classes", classes)
    assert (code, out) == (1, "")
    assert "are not distinct names" in err


@pytest.mark.parametrize("out", ["sheet.json", "sheet.txt", "sheet", "absent/sheet.png"])
def test_check_needs_a_place_for_its_sheet(out, own_data, medseg_train, tmp_path):
    code, _, err = medseg_train("check", own_data, "--out", tmp_path / out)
    assert code == 1
    assert err.endswith("Give --out a .png file in a folder that you may write to.\n")
