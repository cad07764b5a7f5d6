"""The run folder on its own: torn, damaged or missing files, and the average of the weights."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from medseg_runtime.errors import CheckpointError, OutputError
from medseg_trainer.training import run_files
from medseg_trainer.training.ema import Ema
from medseg_trainer.training.loop import fit
from medseg_trainer.training.run_files import save_safetensors
from medseg_trainer.training.run_folder import RunFolder


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


def test_a_damaged_state_is_named_where_nothing_is_trained_too(reference, tmp_path):
    run = shutil.copytree(reference, tmp_path / "run")
    for name in ("state/denoiser.safetensors", "denoiser.safetensors"):
        (run / name).write_bytes((run / name).read_bytes()[:50])
    with pytest.raises(CheckpointError, match=r"denoiser.safetensors is damaged"):
        RunFolder(run).check_finished()
    with pytest.raises(CheckpointError, match=r"denoiser.safetensors is damaged"):
        RunFolder(run).kept()


def test_other_data_than_a_run_began_with_are_refused(config, reference, phantom, tmp_path):
    run = shutil.copytree(reference, tmp_path / "run")
    before = (run / "data.json").read_text()
    phantom.write_dataset(tmp_path / "data", num_patients=12)
    with pytest.raises(
        CheckpointError, match=r"was started on .* train images and .* val images, and there are .* now"
    ):
        fit(config, tmp_path / "data", run)
    assert (run / "data.json").read_text() == before


def test_as_many_other_images_are_refused_too(config, reference, phantom_zips, tmp_path):
    """Or what was trained on becomes what the best weights are chosen by."""
    run = shutil.copytree(reference, tmp_path / "run")
    told = json.loads((run / "data.json").read_text())
    told["splits"]["val"]["names_sha256"] = "0" * 64
    (run / "data.json").write_text(json.dumps(told))
    with pytest.raises(CheckpointError, match="and there are others now"):
        fit(config, phantom_zips, run)


def test_weights_that_somebody_deleted_are_made_again(config, reference, phantom_zips, tmp_path):
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


def test_a_full_disk_is_said_in_a_line_and_costs_nothing_that_was_there(reference, tmp_path, monkeypatch):
    run = shutil.copytree(reference, tmp_path / "run")
    before = (run / "denoiser.safetensors").read_bytes()

    def full(_tensors, path, _metadata):
        path.write_bytes(b"half")
        raise SafetensorError("Error while serializing: I/O error: No space left on device")

    monkeypatch.setattr(run_files, "save_file", full)
    with pytest.raises(OutputError, match=r"denoiser.safetensors cannot be written: .*No space left.*same command"):
        RunFolder(run).save_weights("denoiser", {}, {})
    assert (run / "denoiser.safetensors").read_bytes() == before
    assert not list(run.glob(".*"))


def test_the_weights_are_called_best_of_the_images_that_there_were(reference, tmp_path):
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


def test_the_average_starts_short_and_grows_to_its_decay():
    module = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(module.weight)
    ema, expected = Ema(module, 0.5), 0.0
    for step in range(1, 30):
        torch.nn.init.constant_(module.weight, step)
        ema.update(module, step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
        assert ema.tensors["weight"].item() == pytest.approx(expected, rel=1e-6)
    assert module.weight.item() - expected == pytest.approx(
        1.0, abs=1e-3
    )  # a ramp is followed decay / (1 - decay) behind


def test_the_average_of_what_stays_is_what_it_is():
    module = torch.nn.BatchNorm1d(3)
    ema = Ema(module, 0.9)
    for step in range(1, 4):
        module.num_batches_tracked += 7
        ema.update(module, step)
    torch.testing.assert_close(ema.tensors["weight"], module.weight.detach(), atol=0, rtol=0)
    assert ema.tensors["num_batches_tracked"] == 21  # no float: the last value
