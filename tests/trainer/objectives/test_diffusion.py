"""The training objective in closed form: noising, targets, weights, and the loss of a perfect denoiser."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import kstest, norm

from medseg_runtime.model.sampler import ProbabilityPath, alphas_cumprod, sampler_table
from medseg_trainer.models.autoencoder import MaskAutoencoder
from medseg_trainer.models.condition import UNetCondition
from medseg_trainer.objectives.diffusion import LEAST_TIME, DenoiserStage, corrupt

FLOW, SHIFTED, EPSILON = (
    ProbabilityPath(objective="flow"),
    ProbabilityPath(objective="flow", shift=3.0),
    ProbabilityPath(objective="epsilon"),
)
PATHS = pytest.mark.parametrize("path", [FLOW, SHIFTED, EPSILON], ids=["flow", "shifted flow", "epsilon"])


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def levels(path, time):
    """Return the factors of data and noise in corrupt(), measured with ones and zeros."""
    one, zero = torch.ones(len(time), 1, 1, 1), torch.zeros(len(time), 1, 1, 1)
    alpha, sigma = corrupt(path, one, zero, time)[0], corrupt(path, zero, one, time)[0]
    return alpha.flatten().double().numpy(), sigma.flatten().double().numpy()


@PATHS
def test_noising_mixes_data_and_noise_as_the_path_says(path):
    time = torch.randn(64)
    _, t, _, _ = corrupt(path, torch.zeros(64, 1, 1, 1), torch.zeros(64, 1, 1, 1), time)
    alpha, sigma = levels(path, time)
    if path.objective == "epsilon":
        np.testing.assert_allclose(alpha**2 + sigma**2, 1.0, atol=1e-6)
        np.testing.assert_allclose(alpha**2, alphas_cumprod()[t.numpy().astype(int)], atol=1e-6)
    else:
        np.testing.assert_allclose(alpha + sigma, 1.0, atol=1e-6)
        np.testing.assert_allclose(sigma, t.numpy() / 1000, atol=1e-6)


@PATHS
def test_the_ends_of_the_path_are_data_and_noise(path):
    latent, noise = torch.randn(2, 4, 3, 3), torch.randn(2, 4, 3, 3)
    noisy, t, _, _ = corrupt(path, latent, noise, torch.tensor([-30.0, 30.0]))
    tolerance = (
        0.05 if path.objective == "epsilon" else 1e-5
    )  # DDPM begins with 1 % of noise and ends with 0.6 % of signal
    torch.testing.assert_close(noisy[0], latent[0], atol=tolerance, rtol=0)
    torch.testing.assert_close(noisy[1], noise[1], atol=tolerance, rtol=0)
    assert t.tolist() == pytest.approx([0, 999 if path.objective == "epsilon" else 1000], abs=1e-3)


def test_targets_and_weights():
    latent, noise, time = torch.randn(9, 4, 2, 2), torch.randn(9, 4, 2, 2), torch.linspace(-6, 6, 9)
    _, _, target, weight = corrupt(EPSILON, latent, noise, time)
    torch.testing.assert_close(target, noise)
    assert (weight == 1).all()
    _, t, target, weight = corrupt(FLOW, latent, noise, time)
    torch.testing.assert_close(target, latent)
    np.testing.assert_allclose(weight, np.maximum(t.numpy() / 1000, LEAST_TIME) ** -2, rtol=1e-5)
    assert weight[0] == pytest.approx(LEAST_TIME**-2)


def test_the_flow_s_loss_is_that_of_the_velocity():
    """v = noise - z_0 = (z_u - z_0) / u; so the error of f over u is the error of the velocity."""
    latent, noise, time = torch.randn(5, 4, 2, 2), torch.randn(5, 4, 2, 2), torch.linspace(-1, 2, 5)
    noisy, t, target, weight = corrupt(FLOW, latent, noise, time)
    guess = torch.randn_like(latent)
    u = (t / 1000).float()[:, None, None, None]
    velocity_error = ((noisy - guess) / u - (noise - latent)).square().mean(dim=(1, 2, 3))
    torch.testing.assert_close(
        (guess - target).square().mean(dim=(1, 2, 3)) * weight, velocity_error, atol=1e-4, rtol=1e-4
    )


@PATHS
def test_times_have_the_stated_distribution(path):
    """epsilon: uniform in 0..999. flow: logit-normal, u' = s u / (1 + (s - 1) u), so logit u' - log s is standard normal."""
    latent = torch.zeros(4000, 1, 1, 1)
    t = corrupt(path, latent, latent, torch.randn(4000))[1].numpy()
    if path.objective == "epsilon":
        assert (t == t.round()).all()
        assert kstest((t + 0.5) / 1000, "uniform").pvalue > 0.01
    else:
        u = t / 1000
        assert kstest(np.log(u / (1 - u)) - np.log(path.shift), norm.cdf).pvalue > 0.01


@pytest.mark.parametrize(
    ("path", "sampler"), [(FLOW, "euler"), (SHIFTED, "dpmpp"), (EPSILON, "ddim"), (EPSILON, "ddpm"), (EPSILON, "dpmpp")]
)
@pytest.mark.parametrize("steps", [1, 4, 10])
def test_training_and_sampling_mean_the_same_path(path, sampler, steps):
    """With a denoiser that knows the latent, every step and the result are the latent."""
    table = sampler_table(path, sampler, steps)
    latent = torch.randn(1, 4, 3, 3).double()
    noise = torch.randn(1, 4, 3, 3).double()
    power = alphas_cumprod()
    z, previous = noise.clone(), torch.zeros_like(noise)
    for t, (p, q, a, b, c) in zip(table.t, table.rows, strict=True):
        if path.objective == "flow":
            out = latent
        else:
            alpha = power[int(t)] ** 0.5
            out = (z - alpha * latent) / (1 - power[int(t)]) ** 0.5
        denoised = p * z + q * out
        torch.testing.assert_close(denoised, latent, atol=1e-8, rtol=0)
        extra = {"noise": torch.randn_like(z), "previous": previous, "none": torch.zeros_like(z)}[table.extra]
        z, previous = a * z + b * denoised + c * extra, denoised
    torch.testing.assert_close(z, latent, atol=1e-8, rtol=0)


# --- the stage


class Oracle(torch.nn.Module):
    """A denoiser with a fixed answer."""

    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, _z, _condition, _time):
        return self.answer


@pytest.fixture
def stage(micro):
    """build(path, ...) is a DenoiserStage on an untrained mask autoencoder."""

    def build(path=FLOW, classes=("nodule",), **denoiser):
        config = micro(path=path, classes=classes)
        fields = {"mask_cell_weight": 1.0, "auxiliary_weight": 0.0} | denoiser
        config = replace(config, denoiser=replace(config.denoiser, **fields))
        autoencoder = MaskAutoencoder(config.mask_autoencoder, config.num_logits)
        return DenoiserStage(config, autoencoder, UNetCondition(config.condition, 1, 4)), autoencoder

    return build


def inputs(raters=2):
    labels = torch.zeros(3, raters, 32, 32, dtype=torch.uint8)
    labels[0, 0, 9:11, 9:11] = 1  # inside cell (2, 2)
    labels[1, :, 0:4, 28:32] = 1  # cell (0, 7), in a corner
    return torch.rand(3, 1, 32, 32), labels, torch.randn(3 * raters, 4, 8, 8), torch.randn(3 * raters)


@PATHS
def test_an_oracle_has_no_loss(path, stage):
    module, autoencoder = stage(path, mask_cell_weight=4.0)
    image, labels, noise, time = inputs()
    with torch.no_grad():
        answer = noise if path.objective == "epsilon" else autoencoder.encode(labels.flatten(0, 1))
    module.denoiser = Oracle(answer)
    assert module(image, labels, noise, time)[0].item() == pytest.approx(0.0, abs=1e-10)


@PATHS
def test_the_loss_is_the_weighted_mean_of_the_squares(path, stage):
    module, autoencoder = stage(path)
    image, labels, noise, time = inputs()
    guess = torch.randn(6, 4, 8, 8)
    module.denoiser = Oracle(guess)
    _, _, target, weight = corrupt(path, autoencoder.encode(labels.flatten(0, 1)), noise, time)
    expected = np.mean([w * ((g - t) ** 2).mean() for w, g, t in zip(weight, guess, target.detach(), strict=True)])
    assert module(image, labels, noise, time)[0].item() == pytest.approx(float(expected), rel=1e-5)


def test_cells_in_and_beside_any_raters_mask_weigh_more(stage):
    module, _ = stage(mask_cell_weight=4.0)
    _, labels, _, _ = inputs()
    expected = np.ones((3, 1, 8, 8))
    expected[0, 0, 1:4, 1:4] = 4.0  # cell (2, 2) and its neighbours, for both raters, although only one marked it
    expected[1, 0, 0:2, 6:8] = 4.0
    np.testing.assert_array_equal(module._cell_weight(labels), expected)


def test_cell_weights_multiply_the_squares(stage):
    module, _ = stage(EPSILON, mask_cell_weight=4.0)
    image, labels, noise, time = inputs()
    error = torch.zeros(6, 4, 8, 8)
    error[1, :, 2, 2] = error[2, :, 2, 2] = (
        1.0  # rater 1 of image 0, which is marked there; rater 0 of image 1, which is not
    )
    module.denoiser = Oracle(noise + error)
    assert module(image, labels, noise, time)[0].item() == pytest.approx((4.0 + 1.0) / 64 / 6, rel=1e-5)


def test_the_auxiliary_loss_is_cross_entropy_with_the_raters_mean(stage):
    module, _ = stage(auxiliary_weight=2.0)
    image, labels, noise, time = inputs()
    probability = module.auxiliary.exit(module.condition(image)).sigmoid()
    mean = labels.float().mean(dim=1, keepdim=True)
    expected = -(mean * probability.log() + (1 - mean) * (1 - probability).log()).mean()
    loss, parts = module(image, labels, noise, time)
    torch.testing.assert_close(parts["auxiliary"], expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(loss, parts["denoising"] + 2.0 * parts["auxiliary"])


def test_the_auxiliary_loss_of_several_classes(stage):
    module, _ = stage(classes=("core", "rim"), auxiliary_weight=1.0)
    image, labels, noise, time = inputs()
    labels[0, 1, 9:11, 9:11] = 2  # where rater 0 says 1
    log_probability = module.auxiliary.exit(module.condition(image)).log_softmax(dim=1)
    share = torch.stack([(labels == k).float().mean(dim=1) for k in range(3)], dim=1)
    expected = -(share * log_probability).sum(dim=1).mean()
    torch.testing.assert_close(module(image, labels, noise, time)[1]["auxiliary"], expected, atol=1e-5, rtol=1e-5)


def test_the_mask_autoencoder_is_frozen_and_no_part_of_the_stage(stage):
    module, autoencoder = stage(auxiliary_weight=1.0)
    module(*inputs())[0].backward()
    assert all(parameter.grad is None for parameter in autoencoder.parameters())
    assert {name.partition(".")[0] for name in module.state_dict()} == {"condition", "denoiser", "auxiliary"}
    assert any(parameter.grad.abs().sum() > 0 for parameter in module.condition.parameters())
