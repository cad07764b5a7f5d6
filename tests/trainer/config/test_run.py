"""The configuration of a run: its JSON, and what it refuses."""

import dataclasses
import json
import re
from dataclasses import replace

import pytest

from medseg_runtime.errors import CheckpointError, ParameterError
from medseg_runtime.model.bundle import Sampling
from medseg_trainer.config.presets import PRESETS, paper, photo, tiny
from medseg_trainer.config.run import AugmentConfig, Optimisation, TrainConfig
from tests.trainer.presets import EVERY_PRESET


@EVERY_PRESET
def test_config_json_reads_back(preset):
    config = PRESETS[preset]()
    assert TrainConfig.from_json(config.to_json()) == config


def test_an_older_config_json_gets_the_defaults_of_newer_fields():
    content = json.loads(tiny().to_json())
    for field in ("energy", "precision", "seed", "validate_every"):
        del content[field]
    expected = replace(tiny(), energy=None, precision="auto", seed=0, validate_every=1000)
    assert TrainConfig.from_json(json.dumps(content)) == expected


def edited(path, value):
    """Return the JSON of a preset with one value replaced."""
    content = part = json.loads(paper().to_json())
    *parts, last = path.split(".")
    for name in parts:
        part = part[name]
    part[last] = value
    return json.dumps(content)


def without(field):
    return json.dumps({key: value for key, value in json.loads(tiny().to_json()).items() if key != field})


REFUSED = {
    "no JSON": ("", "Expecting value"),
    "a list": ("[]", "config is [], not TrainConfig"),
    "a missing field": (without("raters"), "missing .* 'raters'"),
    "an unknown field": (edited("color", "blue"), "config has unknown fields: color"),
    "an unknown field of a part": (edited("denoiser.depth", 3), "config.denoiser has unknown fields: depth"),
    "text for a number": (edited("validate_every", "x"), "config.validate_every is 'x', not int"),
    "a number as text": (edited("denoiser.optimisation.steps", "5000"), "optimisation.steps is '5000', not int"),
    "a fraction for a whole number": (edited("raters", 4.5), "config.raters is 4.5, not int"),
    "a number for a truth value": (edited("condition.tuned", 0), "config.condition.tuned is 0, not bool"),
    "null": (edited("seed", None), "config.seed is None, not int"),
    "text for a list": (edited("classes", "nodule"), "config.classes is 'nodule', not"),
    "text in a list of numbers": (
        edited("denoiser.widths", [64, "128"]),
        r"config.denoiser.widths\[1\] is '128', not int",
    ),
    "an unknown choice": (edited("mask_autoencoder.regulariser", "cube"), "regulariser is 'cube', not"),
    "a value out of range": (edited("mask_autoencoder.factor", 3), "factor 3 is not a power of two"),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_a_config_json_of_another_shape_is_refused(fault):
    text, problem = REFUSED[fault]
    message = rf"^config.json is not a configuration of this version: .*{problem.replace('[]', re.escape('[]'))}.*\. Train again, or install"
    with pytest.raises(CheckpointError, match=message):
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
