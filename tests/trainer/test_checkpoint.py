"""The run folder on its own: torn, damaged or missing files, and the average of the weights."""

import shutil
from pathlib import Path

import pytest
import torch

from medseg_runtime.errors import CheckpointError
from medseg_trainer.checkpoint import Ema, RunFolder, save_safetensors
from medseg_trainer.loop import fit


def test_a_torn_last_line_is_dropped(tmp_path):
    lines = '{"stage": "a", "step": 1}\n{"stage": "b", "step": 2}\n{"stage": "b", "step": 3}\n{"stage": "b", "validation": {}'
    (tmp_path / "metrics.jsonl").write_text(lines)
    RunFolder(tmp_path).forget_after("b", 2)
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
