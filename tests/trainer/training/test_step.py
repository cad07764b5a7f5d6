"""One optimiser step: learning rate, random numbers, overflowing gradients."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from medseg_trainer.config.run import Optimisation
from medseg_trainer.training.step import learning_rate, take_step


def test_the_learning_rate_warms_up_and_falls_to_zero():
    settings = Optimisation(steps=1000, batch_size=1, learning_rate=0.2, warmup_steps=10)
    rates = np.array([learning_rate(settings, step) for step in range(1000)])
    assert rates[0] == pytest.approx(0.2 / 10)
    assert rates[9] == pytest.approx(0.2, rel=1e-3)
    assert rates[500] == pytest.approx(0.1)
    assert rates[999] == pytest.approx(0.2 * np.sin(np.pi / 2000) ** 2)
    assert rates.argmax() == 9
    assert (np.diff(rates[9:]) < 0).all()
    assert learning_rate(replace(settings, warmup_steps=0), 0) == 0.2


def step_of_a_stub(config, losses, *, rank=0, precision="32-true"):
    """Take a step with stubs; return the options of the gradient clipping."""
    asked = {}
    fabric = SimpleNamespace(
        global_rank=rank,
        device=torch.device("cpu"),
        backward=lambda _: None,
        clip_gradients=lambda *_, **options: asked.update(options),
        strategy=SimpleNamespace(precision=SimpleNamespace(precision=precision)),
    )
    stage = SimpleNamespace(optimisation=config.denoiser.optimisation, losses=losses)
    optimiser = SimpleNamespace(param_groups=[{}], step=lambda: None, zero_grad=lambda: None)
    take_step(fabric, stage, None, optimiser, None, SimpleNamespace(seed=7, rank=0, world_size=1), 5)
    return asked


@pytest.mark.parametrize(("precision", "refused"), [("16-mixed", False), ("bf16-mixed", True), ("32-true", True)])
def test_gradients_may_overflow_only_where_the_loss_is_scaled(precision, refused, config):
    """The loss scaler of float16 finds its scale by overflowing, and skips those steps."""
    asked = step_of_a_stub(config, lambda *_: (torch.zeros(()), {}), precision=precision)
    assert asked["error_if_nonfinite"] is refused


def test_processes_differ_in_dropout_and_share_the_noise(config):
    def drawn(rank):
        seen = []

        def losses(_module, _batch, draws):
            seen.extend([torch.rand(8), draws.normal(3)])
            return torch.zeros(()), {}

        step_of_a_stub(config, losses, rank=rank)
        return seen

    (dropout, noise), (other_dropout, same_noise) = drawn(0), drawn(1)
    assert not torch.equal(dropout, other_dropout)
    assert torch.equal(noise, same_noise)
