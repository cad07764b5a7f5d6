"""The average of the weights."""

import pytest
import torch

from medseg_trainer.training.ema import Ema


def test_the_decay_of_the_average_grows_to_its_limit():
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
    )  # the average of a ramp lags by decay / (1 - decay)


def test_constant_weights_stay_and_counters_are_copied():
    module = torch.nn.BatchNorm1d(3)
    ema = Ema(module, 0.9)
    for step in range(1, 4):
        module.num_batches_tracked += 7
        ema.update(module, step)
    torch.testing.assert_close(ema.tensors["weight"], module.weight.detach(), atol=0, rtol=0)
    assert ema.tensors["num_batches_tracked"] == 21  # an integer: the last value
