"""The run folder: damaged, missing and deleted files, and the weights that are kept."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from medseg_runtime.errors import CheckpointError
from medseg_trainer.training.loop import fit
from medseg_trainer.training.run_files import save_safetensors
from medseg_trainer.training.run_folder import RunFolder
from tests.trainer.training.runs import contents


def test_a_torn_last_line_is_dropped(tmp_path):
    lines = '{"stage": "a", "step": 1}\n{"stage": "b", "step": 2}\n{"stage": "b", "step": 3}\n{"stage": "b", "validation": {}'
    (tmp_path / "metrics.jsonl").write_text(lines)
    RunFolder(tmp_path).drop_log_after("b", 2)
    assert (tmp_path / "metrics.jsonl").read_text() == "".join(lines.splitlines(keepends=True)[:2])


@pytest.mark.parametrize("name", ["state/denoiser.safetensors", "mask_autoencoder.safetensors"])
def test_a_damaged_file_is_named(name, config, reference, phantom_zips, tmp_path):
    run = shutil.copytree(reference, tmp_path / "run")
    (run / name).write_bytes((run / name).read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=rf"{Path(name).name} is damaged"):
        fit(config, phantom_zips, run)


def test_a_damaged_state_is_named_without_training(reference, tmp_path):
    run = shutil.copytree(reference, tmp_path / "run")
    for name in ("state/denoiser.safetensors", "denoiser.safetensors"):
        (run / name).write_bytes((run / name).read_bytes()[:50])
    with pytest.raises(CheckpointError, match=r"denoiser.safetensors is damaged"):
        RunFolder(run).check_finished()
    with pytest.raises(CheckpointError, match=r"denoiser.safetensors is damaged"):
        RunFolder(run).kept()


def test_deleted_weights_are_written_again(config, reference, phantom_zips, tmp_path):
    run = shutil.copytree(reference, tmp_path / "run")
    for name in ("mask_autoencoder", "denoiser"):
        (run / f"{name}.safetensors").unlink()
    fit(config, phantom_zips, run)
    steps = config.denoiser.optimisation.steps
    assert (
        RunFolder(run).kept()
        == f"denoiser weights of step {steps}, the last ones, made again after the best were deleted"
    )
    RunFolder(run).networks()
    same = "mask_autoencoder.safetensors"
    assert load_file(run / same).keys() == load_file(reference / same).keys()


def test_two_processes_do_not_train_in_one_folder(config, reference, phantom_zips, tmp_path):
    run = shutil.copytree(reference, tmp_path / "run")
    with RunFolder(run).locked(), pytest.raises(CheckpointError, match="another process trains in 'run'"):
        fit(config, phantom_zips, run)
    fit(config, phantom_zips, run)


def test_what_a_killed_process_left_is_removed(config, reference, phantom_zips, tmp_path):
    run = shutil.copytree(reference, tmp_path / "run")
    expected = contents(run)
    left = [run / folder / ".partial-0123.safetensors" for folder in ("state", "samples", ".")]
    for path in left:
        path.write_bytes(b"half")
    os.utime(left[-1], (0, 0))
    fit(config, phantom_zips, run)
    assert contents(run) == expected
    left[-1].write_bytes(b"of a process that evaluates")
    fit(config, phantom_zips, run)
    assert left[-1].exists()


def test_the_kept_weights_state_how_many_images_were_measured(reference, tmp_path):
    run = shutil.copytree(reference, tmp_path / "run")
    told = json.loads((run / "data.json").read_text())
    told["splits"]["val"]["images"] = 1
    (run / "data.json").write_text(json.dumps(told))
    assert RunFolder(run).kept().endswith("the best GED on 1 val images")


@pytest.mark.parametrize("missing", ["mask_autoencoder", "denoiser"])
def test_a_stage_that_was_not_trained_is_named(missing, reference, tmp_path):
    run = shutil.copytree(reference, tmp_path / "run")
    (run / f"{missing}.safetensors").unlink()
    with pytest.raises(CheckpointError, match=rf"{missing} has not been trained yet. Run the same `medseg-train fit`"):
        RunFolder(run).networks()


def test_weights_of_another_shape_are_refused(reference, tmp_path):
    run = shutil.copytree(reference, tmp_path / "run")
    save_safetensors(run / "denoiser.safetensors", {"denoiser.exit.weight": torch.zeros(1)}, {})
    with pytest.raises(CheckpointError, match=r"denoiser.safetensors does not fit config.json"):
        RunFolder(run).networks()


def test_an_empty_folder_is_no_run(tmp_path):
    with pytest.raises(CheckpointError, match=r"holds no training run. Give the folder"):
        RunFolder(tmp_path).config()
