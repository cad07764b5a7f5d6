"""Training from end to end on phantoms: the files of a run, and the weights that are kept."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from safetensors import safe_open
from safetensors.torch import load_file

from medseg_runtime.errors import CheckpointError, DataError, OutputError, ParameterError
from medseg_trainer.config.run import Optimisation
from medseg_trainer.training import loop
from medseg_trainer.training.loop import fit
from medseg_trainer.training.run_folder import RunFolder
from medseg_trainer.training.validation import Validator
from tests.trainer.data.own_folder import MASK, build, pairs
from tests.trainer.training.runs import contents, losses


def test_a_run_folder_holds_only_json_weights_and_pictures(reference):
    names = {path.relative_to(reference).as_posix() for path in reference.rglob("*") if path.is_file()}
    assert names == {
        "config.json",
        "data.json",
        "metrics.jsonl",
        "mask_autoencoder.safetensors",
        "denoiser.safetensors",
        "samples/000002.png",
        "samples/000004.png",
        "samples/000005.png",
        "state/mask_autoencoder.safetensors",
        "state/denoiser.safetensors",
    }


def test_metrics_have_a_line_per_step_and_validation(reference):
    lines = [json.loads(line) for line in (reference / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["stage"] == "mask_autoencoder"] == [1, 2, 3, 4, 5]
    denoiser = [(line["step"], "validation" in line) for line in lines if line["stage"] == "denoiser"]
    assert denoiser == [(1, False), (2, False), (2, True), (3, False), (4, False), (4, True), (5, False), (5, True)]
    assert all(np.isfinite(loss) for loss in losses(reference))


def test_data_json_says_what_it_was_trained_on(reference):
    data = json.loads((reference / "data.json").read_text())
    assert data["layout"] == "LIDC-IDRI-slices"
    assert data["splits"]["train"]["groups"] == 6
    assert data["splits"]["val"]["groups"] == 3
    assert "CC BY" in data["licence"]


def test_the_networks_load_without_the_auxiliary_head(reference, config):
    networks = RunFolder(reference).networks()
    kept = load_file(reference / "denoiser.safetensors")
    assert not any(name.startswith("auxiliary") for name in kept)
    torch.testing.assert_close(networks.denoiser.state_dict()["exit.weight"], kept["denoiser.exit.weight"])
    assert networks.mask_autoencoder.class_weight[1] > 1  # is stored with the weights
    assert RunFolder(reference).config() == config


def test_training_lowers_the_loss(micro, phantom_zips, tmp_path):
    longer = Optimisation(steps=60, batch_size=8, learning_rate=5e-3, warmup_steps=5)
    config = micro(validate_every=60, validation_samples=1)
    config = replace(
        config,
        mask_autoencoder=replace(config.mask_autoencoder, optimisation=longer),
        denoiser=replace(config.denoiser, optimisation=longer),
    )
    fit(config, phantom_zips, tmp_path / "run")
    for stage in ("mask_autoencoder", "denoiser"):
        curve = losses(tmp_path / "run", stage)
        assert np.mean(curve[-10:]) < 0.6 * np.mean(curve[:5]), stage


def test_a_finished_run_is_left_as_it_is(config, reference, phantom_zips, tmp_path, monkeypatch):
    run = shutil.copytree(reference, tmp_path / "run")
    monkeypatch.setattr(loop, "take_step", lambda *_: pytest.fail("it trained"))
    fit(config, phantom_zips, run)
    assert contents(run) == contents(reference)


def test_a_folder_of_another_configuration_is_refused(config, reference, phantom_zips, tmp_path):
    run = shutil.copytree(reference, tmp_path / "run")
    with pytest.raises(CheckpointError, match=r"'run' was started with another configuration. Use another --out"):
        fit(replace(config, seed=1), phantom_zips, run)
    assert contents(run) == contents(reference)


@pytest.mark.parametrize("split", ["train", "val"])
def test_faults_of_the_data_are_found_before_anything_is_written(split, config, phantom_zips, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "take_step", lambda *_: pytest.fail("it trained"))
    data = shutil.copytree(phantom_zips, tmp_path / "data")
    for archive in data.glob(f"lidc-{split}-*.zip"):
        archive.unlink()
    with pytest.raises(DataError, match=f"no LIDC slices of the split '{split}'"):
        fit(config, data, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_masks_that_mark_nothing_are_refused_before_anything_is_written(config, phantom_zips, tmp_path, monkeypatch):
    read = loop.WorkingSet.read

    def unmarked(*given, **options):
        data = read(*given, **options)
        return replace(data, labels=np.zeros_like(data.labels))

    monkeypatch.setattr(loop.WorkingSet, "read", unmarked)
    with pytest.raises(DataError, match="no training mask marks any nodule"):
        fit(config, phantom_zips, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_folder_that_is_a_file_is_refused(config, phantom_zips, tmp_path):
    (tmp_path / "run").write_text("something else")
    with pytest.raises(OutputError, match=r"'run' cannot be made a run folder: .*\. Choose another --out\."):
        fit(config, phantom_zips, tmp_path / "run")


def test_the_weights_with_the_best_ged_are_kept(config, phantom_zips, tmp_path, monkeypatch):
    geds, averages = iter([0.5, 0.3, 0.4]), []

    def validate(_validator, networks, _sampling, _name):
        averages.append({k: v.clone() for k, v in networks.denoiser.state_dict().items()})
        return {"ged": next(geds)}

    monkeypatch.setattr(Validator, "__call__", validate)
    fit(config, phantom_zips, tmp_path / "run")
    with safe_open(tmp_path / "run" / "denoiser.safetensors", "pt") as opened:
        assert opened.metadata() == {"step": "4", "validation": '{"ged": 0.3}'}
    kept = RunFolder(tmp_path / "run").networks().denoiser.state_dict()
    for name, tensor in averages[1].items():
        torch.testing.assert_close(kept[name], tensor, atol=0, rtol=0)
    assert not torch.equal(kept["time.0.weight"], averages[2]["time.0.weight"])


def test_a_batch_that_the_processes_cannot_share_is_refused(config, phantom_zips, tmp_path, monkeypatch):
    monkeypatch.setattr(Fabric, "world_size", 3)
    with pytest.raises(ParameterError, match=r"a batch of 4 cannot be shared equally by 3 processes. Start"):
        fit(config, phantom_zips, tmp_path / "run")


def test_warnings_of_the_data_are_printed_once_before_training(micro, tmp_path, capsys):
    """Two images of train and one of val have masks whose border is marked."""
    names = "abcd"
    files = pairs(*names) | {f"masks/{name}.png": 255 - MASK for name in "acd"}
    data = build(tmp_path / "data", files, "image,split\na,train\nb,train\nc,train\nd,val\n")
    config = micro(steps=1, validate_every=1, validation_samples=1)
    config = replace(config, raters=1, denoiser=replace(config.denoiser, raters_per_image=1))
    fit(config, data, tmp_path / "run")
    told = capsys.readouterr().err
    assert told.count("background and structure are swapped") == 2
    for text in (
        "warning: train: a mask marks",
        "(2, the first a)",
        "warning: val: a mask marks",
        "(d)",
        "medseg-train check",
    ):
        assert text in told
    assert told.index("swapped") < told.index("class share")
