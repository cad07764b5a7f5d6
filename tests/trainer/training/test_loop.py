"""Training from end to end on phantoms: what it leaves, and that an interruption cannot be seen in it."""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from hashlib import sha256

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from medseg_runtime.errors import CheckpointError, DataError, OutputError
from medseg_trainer.config.run import Optimisation
from medseg_trainer.data.working_set import BatchSource
from medseg_trainer.training import loop
from medseg_trainer.training.ema import Ema
from medseg_trainer.training.loop import fit
from medseg_trainer.training.run_folder import RunFolder
from medseg_trainer.training.validation import Validator

TEXT = {".json", ".jsonl"}
FLAT = 1e-4  # of a loss curve that only the order of additions may change


@pytest.fixture(autouse=True)
def every_step_is_logged(monkeypatch):
    monkeypatch.setattr(loop, "LOG_EVERY", 1)


def contents(run):
    """Everything a run folder holds, by path, comparable; tensors by their hash, for a difference must be printable."""
    found = {}
    for path in sorted(p for p in run.rglob("*") if p.is_file()):
        name = path.relative_to(run).as_posix()
        if path.suffix == ".safetensors":
            with safe_open(path, "np") as opened:  # the order of its metadata is not fixed, its tensors are
                tensors = {key: opened.get_tensor(key).tobytes() for key in opened.keys()}  # noqa: SIM118
                found[name] = opened.metadata(), {key: sha256(value).hexdigest() for key, value in tensors.items()}
        else:
            found[name] = path.read_text() if path.suffix in TEXT else sha256(path.read_bytes()).hexdigest()
    return found


def losses(run, stage="denoiser"):
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [line["loss"] for line in lines if line["stage"] == stage and "loss" in line]


# --- what a run leaves


def test_a_run_folder_holds_json_weights_and_pictures_alone(reference):
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


def test_the_networks_load_without_the_training_s_heads(reference, config):
    networks = RunFolder(reference).networks()
    kept = load_file(reference / "denoiser.safetensors")
    assert not any(name.startswith("auxiliary") for name in kept)
    torch.testing.assert_close(networks.denoiser.state_dict()["exit.weight"], kept["denoiser.exit.weight"])
    assert networks.mask_autoencoder.class_weight[1] > 1  # comes with the weights
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


# --- interruptions


MOMENTS = {
    "before the first batch": (BatchSource, "__getitem__", 1),
    "before a batch of the second stage": (BatchSource, "__getitem__", 8),
    "after the weights moved": (torch.optim.AdamW, "step", 3),
    "after the weights moved for the last time in a stage": (torch.optim.AdamW, "step", 5),
    "before the average moves": (Ema, "update", 9),
    "while logging": (RunFolder, "log", 7),
    "while validating": (Validator, "__call__", 1),
    "while saving": (RunFolder, "save_state", 2),
}


def interrupt_at(monkeypatch, owner, name, call):
    """Let Ctrl-C arrive in the call-th call of a method; after its work where that is done in one piece."""
    original, count = getattr(owner, name), 0

    def interrupted(*arguments, **options):
        nonlocal count
        count += 1
        after = original(*arguments, **options) if owner is torch.optim.AdamW else None
        if count == call:
            signal.raise_signal(signal.SIGINT)
        return after if owner is torch.optim.AdamW else original(*arguments, **options)

    monkeypatch.setattr(owner, name, interrupted)


@pytest.mark.parametrize("moment", MOMENTS)
def test_an_interrupted_run_goes_on_as_if_nothing_had_happened(
    moment, config, reference, phantom_zips, tmp_path, monkeypatch
):
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        interrupt_at(patch, *MOMENTS[moment])
        with pytest.raises(KeyboardInterrupt):
            fit(config, phantom_zips, run)
    assert contents(run) != contents(reference)
    fit(config, phantom_zips, run)
    assert contents(run) == contents(reference)


def test_a_resumed_run_leaves_out_what_an_uninterrupted_one_does(micro, phantom_zips, tmp_path, monkeypatch):
    config = micro(validate_every=3)
    config = replace(config, condition=replace(config.condition, dropout=0.3))
    fit(config, phantom_zips, tmp_path / "whole")
    with monkeypatch.context() as patch:
        interrupt_at(patch, Ema, "update", 5)
        with pytest.raises(KeyboardInterrupt):
            fit(config, phantom_zips, tmp_path / "interrupted")
    fit(config, phantom_zips, tmp_path / "interrupted")
    assert contents(tmp_path / "interrupted") == contents(tmp_path / "whole")
    fit(micro(validate_every=3), phantom_zips, tmp_path / "nothing left out")
    assert losses(tmp_path / "whole") != losses(tmp_path / "nothing left out")


def test_every_step_may_be_the_last_before_an_interruption(config, reference, phantom_zips, tmp_path, monkeypatch):
    run, interruptions = tmp_path / "run", 0
    while True:
        try:
            with monkeypatch.context() as patch:
                interrupt_at(patch, Ema, "update", 1)
                fit(config, phantom_zips, run)
            break
        except KeyboardInterrupt:
            interruptions += 1
    assert interruptions == 10
    assert contents(run) == contents(reference)


def test_a_second_ctrl_c_stops_at_once_and_saves_nothing(config, reference, phantom_zips, tmp_path, monkeypatch):
    run = tmp_path / "run"

    def twice(*_):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        pytest.fail("it went on")

    with monkeypatch.context() as patch:
        patch.setattr(Ema, "update", twice)
        with pytest.raises(KeyboardInterrupt):
            fit(config, phantom_zips, run)
    assert not list((run / "state").iterdir())
    fit(config, phantom_zips, run)
    assert contents(run) == contents(reference)


def test_the_handler_of_ctrl_c_is_given_back(config, phantom_zips, tmp_path):
    before = signal.getsignal(signal.SIGINT)
    fit(config, phantom_zips, tmp_path / "run")
    assert signal.getsignal(signal.SIGINT) is before


FIT = """
import os, signal, sys
from pathlib import Path
from medseg_trainer.training import loop
from medseg_trainer.training.ema import Ema
from medseg_trainer.config.run import TrainConfig

config, data, out, save_every, kill_at = sys.argv[1:]
loop.LOG_EVERY, loop.SAVE_EVERY_SECONDS = 1, float(save_every)
original, count = Ema.update, 0

def update(self, *arguments):
    global count
    count += 1
    if count == int(kill_at):
        os.kill(os.getpid(), signal.SIGKILL)
    original(self, *arguments)

Ema.update = update
if __name__ == "__main__":
    loop.fit(TrainConfig.from_json(Path(config).read_text()), Path(data), Path(out))
"""


@pytest.fixture
def fit_in_a_process(config, phantom_zips, tmp_path):
    """fit_in_a_process(out, launcher=..., save_every=..., kill_at=...) -> exit code."""
    (tmp_path / "fit.py").write_text(FIT)
    (tmp_path / "config.json").write_text(config.to_json())

    def start(out, *, launcher=(), save_every=1e9, kill_at=0):
        script = (tmp_path / "fit.py", tmp_path / "config.json", phantom_zips, out, save_every, kill_at)
        command = [sys.executable, *launcher, *map(str, script)]
        threads = str(torch.get_num_threads())  # as many as here: the order of additions decides on the last bits
        done = subprocess.run(
            command, env=os.environ | {"OMP_NUM_THREADS": threads}, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stderr

    return start


@pytest.mark.parametrize(
    ("save_every", "kill_at", "resumes_at"),
    [(0.0, 3, ("mask_autoencoder", 2)), (1e9, 9, ("denoiser", 2))],
    ids=["saved at every step", "saved at validations alone"],
)
def test_a_killed_run_goes_on_from_its_last_saved_state(
    save_every, kill_at, resumes_at, fit_in_a_process, config, reference, phantom_zips, tmp_path
):
    run = tmp_path / "run"
    code, errors = fit_in_a_process(run, save_every=save_every, kill_at=kill_at)
    assert code == -signal.SIGKILL, errors
    stage, step = resumes_at
    with safe_open(run / "state" / f"{stage}.safetensors", "np") as opened:
        assert json.loads(opened.metadata()["progress"])["step"] == step
    fit(config, phantom_zips, run)
    assert contents(run) == contents(reference)


@pytest.mark.slow
def test_two_processes_do_what_one_does(fit_in_a_process, reference, tmp_path):
    run = tmp_path / "run"
    code, errors = fit_in_a_process(
        run, launcher=("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    )
    assert code == 0, errors
    for stage in ("mask_autoencoder", "denoiser"):
        np.testing.assert_allclose(losses(run, stage), losses(reference, stage), rtol=FLAT)
    ours, theirs = (load_file(folder / "denoiser.safetensors") for folder in (run, reference))
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, atol=1e-3, rtol=0)


# --- the same command again, or another


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
def test_what_is_wrong_with_the_data_is_said_before_anything_is_written(
    split, config, phantom_zips, tmp_path, monkeypatch
):
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


# --- which weights are kept


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
