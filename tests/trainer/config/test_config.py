"""Configurations and the command line around them."""

import dataclasses
import json
from dataclasses import replace
from functools import partial

import pytest

from medseg_runtime.errors import CheckpointError, ParameterError
from medseg_runtime.model.bundle import Sampling
from medseg_runtime.model.sampler import ProbabilityPath, sampler_table
from medseg_trainer import cli
from medseg_trainer.config.presets import PRESETS, paper, photo, tiny
from medseg_trainer.config.run import AugmentConfig, Optimisation, TrainConfig
from medseg_trainer.models.build import build_networks

EVERY_PRESET = pytest.mark.parametrize("preset", PRESETS)


@EVERY_PRESET
def test_config_json_reads_back(preset):
    config = PRESETS[preset]()
    assert TrainConfig.from_json(config.to_json()) == config


@EVERY_PRESET
def test_a_preset_is_whole(preset):
    """Its networks fit together, its default sampler can sample it, its raters exist."""
    config = PRESETS[preset]()
    build_networks(config)
    sampler_table(config.path, config.sampling.sampler, config.sampling.steps)
    assert 1 <= config.denoiser.raters_per_image <= config.raters


def test_the_paper_s_choices():
    config = paper()
    assert config.mask_autoencoder.regulariser == "vq"
    assert config.mask_autoencoder.reconstruction == "cross_entropy"
    assert config.latent[0] == 4
    assert (config.condition.kind, config.condition.tuned) == ("autoencoder", False)
    assert config.path == ProbabilityPath(objective="epsilon")
    assert config.denoiser.raters_per_image == 1
    assert not config.sampling.noise.antithetic


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        json.dumps(json.loads(tiny().to_json()) | {"colour": "blue"}),
        json.dumps({k: v for k, v in json.loads(tiny().to_json()).items() if k != "seed"} | {"raters": None}),
        tiny().to_json().replace('"sphere"', '"cube"'),
    ],
    ids=["nothing", "a list", "no fields", "an unknown field", "a field of another type", "an unknown regulariser"],
)
def test_what_is_no_configuration_is_refused(text):
    with pytest.raises(CheckpointError, match=r"not a configuration of this version.*\. Train again, or install"):
        TrainConfig.from_json(text)


def changed(config, part, **fields):
    return replace(config, **{part: replace(getattr(config, part), **fields)})


IMPOSSIBLE = {
    "no steps": (lambda: Optimisation(steps=0, batch_size=1, learning_rate=1e-3), "must be positive"),
    "an average that never moves": (
        lambda: Optimisation(steps=1, batch_size=1, learning_rate=1e-3, ema_decay=1.0),
        "out of range",
    ),
    "a factor of three": (lambda: changed(tiny(), "mask_autoencoder", factor=3), "not a power of two"),
    "noise without a sphere": (lambda: changed(tiny(), "mask_autoencoder", regulariser="kl"), "no effect"),
    "a frozen U-Net": (lambda: changed(tiny(), "condition", tuned=False), "cannot be frozen"),
    "no image autoencoder": (lambda: changed(tiny(), "condition", kind="autoencoder"), "needs an image autoencoder"),
    "channels of another latent": (lambda: changed(paper(), "condition", channels=5), "a latent of 5 channels"),
    "a U-Net without widths": (lambda: changed(tiny(), "condition", widths=()), "needs widths"),
    "no class": (lambda: replace(tiny(), classes=()), "no class"),
    "one class twice": (lambda: replace(tiny(), classes=("a", "a")), "'a', 'a' are not distinct names"),
    "a class without a name": (lambda: replace(tiny(), classes=("",)), "not distinct names"),
    "a field that does not divide": (lambda: changed(tiny(), "input", height=62), "not divisible by the factor 4"),
    "two factors": (lambda: changed(paper(), "mask_autoencoder", factor=8), "different factors"),
    "more raters than there are": (lambda: replace(tiny(), raters=2), "cannot take 4 of 2 raters"),
    "a latent too small to halve": (lambda: changed(tiny(), "denoiser", widths=(32,) * 6), "cannot be halved 5 times"),
}


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_a_configuration_that_cannot_be_trained_is_refused(case):
    build, message = IMPOSSIBLE[case]
    with pytest.raises(ParameterError, match=message):
        build()


def test_configurations_are_frozen_all_the_way_down():
    for part in (tiny(), tiny().denoiser, tiny().mask_autoencoder.optimisation, AugmentConfig(), Sampling):
        assert part.__dataclass_params__.frozen
    with pytest.raises(dataclasses.FrozenInstanceError):
        tiny().seed = 1


@pytest.mark.parametrize(("classes", "logits"), [(("a",), 1), (("a", "b"), 3), (("a", "b", "c"), 4)])
def test_one_class_needs_one_logit_and_several_one_for_the_background(classes, logits):
    assert replace(photo(), classes=classes).num_logits == logits


# --- command line


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
