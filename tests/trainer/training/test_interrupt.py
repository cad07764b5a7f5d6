"""Interrupted and killed runs: the same command resumes, with the same result."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from medseg_trainer.data.working_set import BatchSource
from medseg_trainer.training.ema import Ema
from medseg_trainer.training.loop import fit
from medseg_trainer.training.run_folder import RunFolder
from medseg_trainer.training.validation import Validator
from tests.trainer.training.runs import contents, losses

FLAT = 1e-4  # relative difference of losses that the order of additions may cause
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
    """Press Ctrl-C in the call-th call of a method: before its work, or after that of AdamW.step."""
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
def test_a_resumed_run_gives_the_result_of_an_uninterrupted_one(
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


def test_a_resumed_run_repeats_the_dropout(micro, phantom_zips, tmp_path, monkeypatch):
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


def test_a_run_may_be_interrupted_at_every_step(config, reference, phantom_zips, tmp_path, monkeypatch):
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


def test_the_handler_of_ctrl_c_is_restored(config, phantom_zips, tmp_path):
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
        threads = str(torch.get_num_threads())  # as many as here: the last bits depend on the order of additions
        done = subprocess.run(
            command, env=os.environ | {"OMP_NUM_THREADS": threads}, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stderr

    return start


@pytest.mark.slow
@pytest.mark.parametrize(
    ("save_every", "kill_at", "resumes_at"),
    [(0.0, 3, ("mask_autoencoder", 2)), (1e9, 9, ("denoiser", 2))],
    ids=["saved at every step", "saved at validations alone"],
)
def test_a_killed_run_resumes_from_its_last_saved_state(
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
def test_two_processes_give_the_result_of_one(fit_in_a_process, reference, tmp_path):
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
