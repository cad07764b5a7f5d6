"""One step of a training: its rate, its random numbers, and what processes share of its batch."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

from medseg_runtime.errors import ParameterError
from medseg_trainer.config.run import Optimisation
from medseg_trainer.data.working_set import Batch
from medseg_trainer.models.autoencoder import MaskAutoencoder
from medseg_trainer.training import loop, plan
from medseg_trainer.training.loop import fit
from medseg_trainer.training.run_folder import RunFolder
from medseg_trainer.training.stages import Draws, random_raters, set_latent_scale
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


def draws(batch_size=4, rank=0, world_size=1):
    generator = torch.Generator().manual_seed(0)
    return Draws(generator, batch_size, rank, world_size)


def test_processes_share_the_random_numbers_of_a_batch():
    whole, first, second = draws(), draws(rank=0, world_size=2), draws(rank=1, world_size=2)
    for kind in ("normal", "uniform"):
        numbers = [getattr(d, kind)(3, 2) for d in (whole, first, second)]
        torch.testing.assert_close(numbers[0][0::2], numbers[1], atol=0, rtol=0)
        torch.testing.assert_close(numbers[0][1::2], numbers[2], atol=0, rtol=0)


def test_random_raters_are_different_ones_and_all_alike_likely():
    labels = torch.arange(4, dtype=torch.uint8)[None, :, None, None].expand(4000, 4, 2, 2)
    picked = random_raters(labels, draws(4000), 2)[:, :, 0, 0]
    assert (picked[:, 0] != picked[:, 1]).all()
    np.testing.assert_allclose(np.bincount(picked[:, 0], minlength=4) / 4000, 0.25, atol=0.03)
    assert random_raters(labels, draws(4000), 4)[:, :, 1, 1].sort(dim=1).values.tolist() == [[0, 1, 2, 3]] * 4000


def test_latents_are_scaled_by_the_cells_of_masks(micro):
    autoencoder = MaskAutoencoder(replace(micro().mask_autoencoder, regulariser="kl", latent_noise=0.0), 1)
    labels = torch.zeros(2, 2, 32, 32, dtype=torch.uint8)
    labels[0, :, 8:12, 4:8] = 1  # one cell, (2, 1), of two of the four masks
    set_latent_scale(autoencoder, Batch(torch.zeros(2, 1, 32, 32), labels))
    latent = autoencoder.encode(labels.flatten(0, 1)).detach()
    assert latent[:2, :, 2, 1].square().mean().item() == pytest.approx(1.0, rel=1e-5)
    set_latent_scale(autoencoder, Batch(torch.zeros(2, 1, 32, 32), labels))  # again: it does not pile up
    torch.testing.assert_close(autoencoder.encode(labels.flatten(0, 1)).detach(), latent)


def test_the_scale_of_latents_is_that_of_the_whole_batch_whatever_the_number_of_processes(
    micro, phantom_zips, tmp_path, monkeypatch
):
    def looked_at(_autoencoder, batch):
        raise KeyboardInterrupt(len(batch.image))

    monkeypatch.setattr(Fabric, "world_size", 2)
    monkeypatch.setattr(loop, "run_stage", lambda *_: None)
    monkeypatch.setattr(RunFolder, "load_weights", lambda *_: None)
    monkeypatch.setattr(plan, "set_latent_scale", looked_at)
    base = micro()
    autoencoder = replace(base.mask_autoencoder, regulariser="kl", latent_noise=0.0)
    with pytest.raises(KeyboardInterrupt) as caught:
        fit(replace(base, mask_autoencoder=autoencoder), phantom_zips, tmp_path / "run")
    assert caught.value.args == (base.mask_autoencoder.optimisation.batch_size,)


def step_of_a_stub(config, losses, *, rank=0, precision="32-true"):
    """Do one step of nothing; returns what was asked of the gradients' clipping."""
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
def test_gradients_may_overflow_where_the_loss_is_scaled_alone(precision, refused, config):
    """On a GPU without bfloat16: its scaler finds its scale by overflowing, and leaves such steps out."""
    asked = step_of_a_stub(config, lambda *_: (torch.zeros(()), {}), precision=precision)
    assert asked["error_if_nonfinite"] is refused


def test_each_process_leaves_out_features_of_its_own_and_all_share_the_noise(config):
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


def test_a_batch_that_the_processes_cannot_share_is_refused(config, phantom_zips, tmp_path, monkeypatch):
    monkeypatch.setattr(Fabric, "world_size", 3)
    with pytest.raises(ParameterError, match=r"a batch of 4 cannot be shared equally by 3 processes. Start"):
        fit(config, phantom_zips, tmp_path / "run")
