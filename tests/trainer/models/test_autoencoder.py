"""The autoencoders: shapes, regularisers, and each loss against an independent statement of it."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from medseg_trainer.models.autoencoder import Bottleneck, MaskAutoencoder, class_weights
from tests.trainer.models.networks import config, randomised


def bottleneck(**changes):
    return Bottleneck(config(**changes))


@pytest.mark.parametrize("regulariser", ["vq", "kl", "sphere"])
@pytest.mark.parametrize("factor", [4, 8])
@pytest.mark.parametrize("num_logits", [1, 3])
def test_masks_become_latents_and_logits(num_logits, factor, regulariser):
    autoencoder = MaskAutoencoder(config(factor=factor, regulariser=regulariser, latent_channels=5), num_logits)
    labels = torch.randint(0, max(2, num_logits), (2, 32, 48), dtype=torch.uint8)
    latent = autoencoder.encode(labels)
    assert latent.shape == (2, 5, 32 // factor, 48 // factor)
    assert autoencoder.decode(latent).shape == (2, num_logits, 32, 48)
    loss, parts = autoencoder(labels, torch.randn_like(latent), torch.tensor([0.0, 0.3]))
    assert loss.item() == pytest.approx(sum(part.item() for part in parts.values()))
    loss.backward()
    assert all(parameter.grad is not None for parameter in autoencoder.parameters())


def test_labels_become_channels_of_plus_and_minus_one():
    labels = torch.tensor([[[0, 1, 2]]], dtype=torch.uint8)
    several = MaskAutoencoder(config(), 3).one_hot(labels)
    assert several[0, :, 0].tolist() == [[1, -1, -1], [-1, 1, -1], [-1, -1, 1]]
    assert MaskAutoencoder(config(), 1).one_hot(labels)[0, :, 0].tolist() == [[-1, 1, 1]]


def test_cells_of_the_sphere_have_unit_mean_square():
    latent, penalty = bottleneck(latent_channels=6)(7.0 * torch.randn(3, 6, 4, 4), None)
    torch.testing.assert_close(latent.square().mean(dim=1), torch.ones(3, 4, 4))
    assert penalty == 0


def test_the_decoder_of_the_sphere_is_trained_on_noisy_latents():
    autoencoder = randomised(MaskAutoencoder(config(latent_noise=0.4), 1))
    labels, noise = torch.randint(0, 2, (2, 16, 16), dtype=torch.uint8), torch.randn(2, 4, 4, 4)
    levels = torch.tensor([0.4, 0.1])
    logits = autoencoder.decoder(autoencoder.encode(labels) + levels[:, None, None, None] * noise)
    expected = autoencoder.reconstruction_loss(logits, labels)
    torch.testing.assert_close(autoencoder(labels, noise, levels)[0], expected)


def test_vq_takes_the_nearest_code():
    module = bottleneck(regulariser="vq")
    z = torch.randn(2, 4, 3, 5)
    every_distance = torch.cdist(z.permute(0, 2, 3, 1).reshape(-1, 4), module.codebook)
    expected = module.codebook[every_distance.argmin(dim=1)].reshape(2, 3, 5, 4).permute(0, 3, 1, 2)
    torch.testing.assert_close(module.nearest_code(z), expected)
    torch.testing.assert_close(module(z, None)[0], expected)


def test_vq_passes_the_gradient_straight_through():
    module = bottleneck(regulariser="vq")
    z = torch.randn(2, 4, 3, 3, requires_grad=True)
    direction = torch.randn(2, 4, 3, 3)
    (module(z, None)[0] * direction).sum().backward()
    torch.testing.assert_close(z.grad, direction)
    assert module.codebook.grad is None  # the codes learn from the penalty alone


def test_vq_pulls_codes_and_encoder_towards_each_other():
    module = bottleneck(regulariser="vq")
    z = torch.randn(1, 4, 1, 1, requires_grad=True)
    _, penalty = module(z, None)
    code = module.nearest_code(z)
    assert penalty.item() == pytest.approx(1.25 * F.mse_loss(z, code).item())  # beta = 0.25 (van den Oord et al.)
    penalty.backward()
    torch.testing.assert_close(z.grad, 0.25 * 2 / 4 * (z - code).detach())
    torch.testing.assert_close(module.codebook.grad.sum(dim=0), (2 / 4 * (code - z)).detach().flatten())


def test_kl_penalty_is_the_divergence_from_the_standard_normal():
    module = bottleneck(regulariser="kl", kl_weight=0.01)
    moments = torch.randn(2, 8, 3, 3)
    mean, log_variance = moments.chunk(2, dim=1)
    ours = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    expected = torch.distributions.kl_divergence(ours, torch.distributions.Normal(0.0, 1.0)).mean()
    assert module(moments, None)[1].item() == pytest.approx(0.01 * expected.item(), rel=1e-5)


def test_kl_samples_its_gaussian_or_takes_the_mean():
    moments, noise = torch.randn(2, 8, 3, 3), torch.randn(2, 4, 3, 3)
    mean, log_variance = moments.chunk(2, dim=1)
    module = bottleneck(regulariser="kl")
    torch.testing.assert_close(module(moments, None)[0], mean)
    torch.testing.assert_close(module(moments, noise)[0], mean + log_variance.exp().sqrt() * noise)


def test_weighted_cross_entropy_by_hand():
    """K = 1: background weighs 1 and foreground 3; one pixel each, then their mean."""
    autoencoder = MaskAutoencoder(config(), 1)
    autoencoder.class_weight.copy_(torch.tensor([1.0, 3.0]))
    logits = torch.tensor([[[[0.7, -1.1]]]])
    labels = torch.tensor([[[1, 0]]], dtype=torch.uint8)
    foreground, background = -np.log(1 / (1 + np.exp(-0.7))), -np.log(1 - 1 / (1 + np.exp(1.1)))
    expected = (3.0 * foreground + 1.0 * background) / 2
    assert autoencoder.reconstruction_loss(logits, labels).item() == pytest.approx(expected, rel=1e-6)


def test_weighted_cross_entropy_of_several_classes_by_hand():
    autoencoder = MaskAutoencoder(config(), 3)
    autoencoder.class_weight.copy_(weight := torch.tensor([1.0, 3.0, 9.0]))
    logits, labels = torch.randn(2, 3, 4, 4), torch.randint(0, 3, (2, 4, 4), dtype=torch.uint8)
    log_probability = logits.log_softmax(dim=1).gather(1, labels.long()[:, None])[:, 0]
    expected = (-weight[labels.long()] * log_probability).mean()  # not divided by the sum of the weights
    torch.testing.assert_close(autoencoder.reconstruction_loss(logits, labels), expected)


def test_both_cross_entropies_are_one_formula():
    """One logit x is equivalent to two logits, 0 and x."""
    one, two = MaskAutoencoder(config(), 1), MaskAutoencoder(config(), 2)
    for autoencoder in (one, two):
        autoencoder.class_weight.copy_(torch.tensor([1.0, 5.0]))
    logits, labels = torch.randn(2, 1, 4, 4), torch.randint(0, 2, (2, 4, 4), dtype=torch.uint8)
    both = torch.cat([torch.zeros_like(logits), logits], dim=1)
    torch.testing.assert_close(one.reconstruction_loss(logits, labels), two.reconstruction_loss(both, labels))


@pytest.mark.parametrize("frequency", [(0.9, 0.1), (0.6, 0.3, 0.1)], ids=["K = 1", "K = 3"])
def test_decoding_subtracts_the_class_weights(frequency):
    """The constant logit that minimises the weighted loss decodes to the unweighted class frequency."""
    frequency = torch.tensor(frequency)
    autoencoder = MaskAutoencoder(config(), 1 if len(frequency) == 2 else 3)
    autoencoder.class_weight.copy_(class_weights(frequency))
    labels = torch.repeat_interleave(torch.arange(len(frequency)), (100 * frequency).round().long())[None, None]
    logit = torch.zeros(1, autoencoder.num_logits, 1, 1, requires_grad=True)
    optimiser = torch.optim.LBFGS([logit], max_iter=100, tolerance_grad=1e-9, tolerance_change=1e-12)

    def closure():
        optimiser.zero_grad()
        loss = autoencoder.reconstruction_loss(logit.expand(-1, -1, 1, 100), labels)
        loss.backward()
        return loss

    optimiser.step(closure)
    fair = logit.detach() - autoencoder._log_weight()
    probability = fair.sigmoid().flatten() if len(frequency) == 2 else fair.softmax(dim=1).flatten()[1:]
    torch.testing.assert_close(probability, frequency[1:], atol=1e-4, rtol=0)


@pytest.mark.parametrize(("reconstruction", "shift"), [("cross_entropy", np.log(4.0)), ("mse", 0.0)])
def test_decode_is_the_decoder_less_the_log_weight(reconstruction, shift):
    autoencoder = randomised(MaskAutoencoder(config(reconstruction=reconstruction), 1))
    autoencoder.class_weight.copy_(torch.tensor([1.0, 4.0]))
    autoencoder.latent_scale.fill_(2.0)
    latent = torch.randn(1, 4, 2, 2)
    torch.testing.assert_close(autoencoder.decode(latent), autoencoder.decoder(latent / 2.0) - shift)


def test_decoding_a_vq_latent_goes_through_its_codebook():
    autoencoder = randomised(MaskAutoencoder(config(regulariser="vq"), 1))
    autoencoder.latent_scale.fill_(0.5)
    labels = torch.randint(0, 2, (1, 16, 16), dtype=torch.uint8)
    latent = autoencoder.encode(labels)
    torch.testing.assert_close(autoencoder.decode(latent + 1e-4), autoencoder.decode(latent))


def test_the_mean_squared_error_of_the_ablation():
    autoencoder = MaskAutoencoder(config(reconstruction="mse"), 1)
    logits = torch.tensor([[[[0.5, -1.0]]]])
    assert autoencoder.reconstruction_loss(logits, torch.tensor([[[1, 1]]])).item() == pytest.approx((0.25 + 4.0) / 2)


def test_class_weights_are_roots_of_the_inverse_frequency():
    assert class_weights(torch.tensor([0.8, 0.2])).tolist() == pytest.approx([1.0, 2.0])
    absent = class_weights(torch.tensor([1.0, 0.0]))
    assert absent.tolist() == pytest.approx([1.0, 1000**0.5])
