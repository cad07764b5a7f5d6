"""The sampler tables against diffusers' schedulers, closed forms, and the noise stream."""

import math

import numpy as np
import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from hypothesis import given
from hypothesis import strategies as st

from medseg_runtime.errors import ParameterError
from medseg_runtime.model import sampler
from medseg_runtime.model.sampler import ProbabilityPath, sampler_table, shifted, time_features

STEPS = (1, 4, 10, 50)
SHIFTS = (1.0, 3.0)
SHAPE = (3, 4, 5, 5)
EPSILON = ProbabilityPath(objective="epsilon")
FLOW = ProbabilityPath(objective="flow", shift=3.0)
PAIRS = [(name, objective) for name, (_, objectives) in sampler.SAMPLERS.items() for objective in objectives]
LINEAR_BETA = {
    "beta_start": 1e-4,
    "beta_end": 2e-2,
    "beta_schedule": "linear",
    "num_train_timesteps": 1000,
    "timestep_spacing": "trailing",
}


# --- against diffusers -------------------------------------------------------------------------------------------------


def data(z, t):
    """Predict the clean latent: any smooth function that mixes channels and depends on the time."""
    return torch.tanh(1.3 * z.roll(1, dims=1) - 0.4 * z) + 0.3 * torch.sin(z + t / 150)


def noise(z, t):
    """Predict the noise, from the same function taken as a velocity, so that latents stay of the order of 1."""
    power = float(sampler.alphas_cumprod()[int(t)])
    return (1 - power) ** 0.5 * z + power**0.5 * data(z, t)


def normal(generator=None):
    return torch.randn(SHAPE, generator=generator or torch.Generator().manual_seed(0))


def with_our_table(table, network, fresh_noise=None):
    """Execute the rows as the exported denoiser does, in float32."""
    z = normal()
    extra = torch.zeros_like(z)
    for t, row in zip(table.t, table.rows.astype(np.float32), strict=True):
        p, q, a, b, c = (torch.tensor(x) for x in row)
        if table.extra == "noise":
            extra = fresh_noise()
        denoised = p * z + q * network(z, t)
        z = a * z + b * denoised + c * extra
        if table.extra == "previous":
            extra = denoised
    return z


def with_diffusers(scheduler, network, **kwargs):
    """Call diffusers' `step` at each of its own timesteps; `network` returns what the scheduler expects."""
    z = normal()
    for t in scheduler.timesteps:
        z = scheduler.step(network(z, float(t)), t, z, **kwargs).prev_sample
    return z


def assert_same_latents(ours, theirs, table):
    # Noise prediction divides by alpha in the last step. It is 1 there, or nearly, but with a single step it is alpha_999 =
    # 1 / 157, and the rounding of the float32 input alone comes to 4e-5.
    division = max(1.0, table.rows[-1, 0])
    assert 0.5 < theirs.abs().max() < 10  # the terms are of one size, so that none hides an error in another
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5 * division)


@pytest.mark.parametrize("steps", STEPS)
def test_ddim_is_that_of_diffusers(steps):
    scheduler = DDIMScheduler(**LINEAR_BETA, clip_sample=False)
    scheduler.set_timesteps(steps)
    table = sampler_table(EPSILON, "ddim", steps)
    assert table.t.tolist() == scheduler.timesteps.tolist()
    assert_same_latents(with_our_table(table, noise), with_diffusers(scheduler, noise), table)


@pytest.mark.parametrize("steps", [*STEPS, 7])
def test_ddpm_is_that_of_diffusers_with_the_same_noise(steps):
    # diffusers adds noise of deviation 1e-10 in the last step (variance clamped to 1e-20); ours adds none.
    scheduler = DDPMScheduler(**LINEAR_BETA, clip_sample=False, variance_type="fixed_small")
    scheduler.set_timesteps(steps)
    table = sampler_table(EPSILON, "ddpm", steps)
    assert table.t.tolist() == scheduler.timesteps.tolist()
    ours, theirs = (torch.Generator().manual_seed(1) for _ in range(2))
    assert_same_latents(
        with_our_table(table, noise, lambda: normal(ours)), with_diffusers(scheduler, noise, generator=theirs), table
    )


@pytest.mark.parametrize("steps", [*STEPS, 2, 3, 7])
def test_dpmpp_is_that_of_diffusers(steps):
    scheduler = DPMSolverMultistepScheduler(
        **LINEAR_BETA, algorithm_type="dpmsolver++", solver_order=2, final_sigmas_type="zero"
    )
    scheduler.set_timesteps(steps)
    table = sampler_table(EPSILON, "dpmpp", steps)
    assert table.t.tolist() == scheduler.timesteps.tolist()
    assert_same_latents(with_our_table(table, noise), with_diffusers(scheduler, noise), table)


@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize("steps", STEPS)
def test_euler_is_that_of_diffusers(steps, shift):
    # Sigmas 1, ..., 1/S before the shift, as the pipelines of SD3 and Flux pass them. The scheduler's own default runs to
    # an already shifted 1/1000 and shifts it again.
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 1.0 / steps, steps))
    table = sampler_table(ProbabilityPath(objective="flow", shift=shift), "euler", steps)
    np.testing.assert_allclose(table.t, scheduler.timesteps, rtol=1e-6)

    def velocity(z, t):  # its model predicts noise - data, ours the data
        return (z - data(z, t)) / (t / 1000)

    assert_same_latents(with_our_table(table, data), with_diffusers(scheduler, velocity), table)


@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize("steps", [*STEPS, 2, 3])
def test_dpmpp_on_the_straight_path_is_that_of_diffusers(steps, shift):
    scheduler = DPMSolverMultistepScheduler(
        algorithm_type="dpmsolver++",
        solver_order=2,
        final_sigmas_type="zero",
        prediction_type="sample",
        use_flow_sigmas=True,
        flow_shift=shift,
    )
    scheduler.set_timesteps(steps)
    table = sampler_table(ProbabilityPath(objective="flow", shift=shift), "dpmpp", steps)
    # diffusers starts this path at sigma = 0.999 and truncates its timesteps to integers. A sample starts from noise alone,
    # so ours starts at sigma = 1, where its log-SNR is minus infinity; give the scheduler our levels.
    scheduler.sigmas = torch.tensor([*(table.t / 1000), 0.0], dtype=torch.float32)
    times = iter(table.t)
    assert_same_latents(
        with_our_table(table, data), with_diffusers(scheduler, lambda z, _: data(z, float(next(times)))), table
    )


# --- closed forms ------------------------------------------------------------------------------------------------------


def levels(path, table):
    """Alpha and sigma at each step, from the definitions of the two paths."""
    if path.objective == "flow":
        return 1 - table.t / 1000, table.t / 1000
    betas = [1e-4 + (2e-2 - 1e-4) * i / 999 for i in range(1000)]
    power = np.array([math.prod(1 - beta for beta in betas[: int(t) + 1]) for t in table.t])
    return np.sqrt(power), np.sqrt(1 - power)


def moments(path, name, steps, *, mean, deviation):
    """Sample N(mean, deviation^2) with the exact network; the exact network is affine, so the moments follow exactly."""
    table = sampler_table(path, name, steps)
    z = np.array([0.0, 1.0])  # coefficients on 1 and on the initial noise
    previous, fresh = np.zeros(2), 0.0  # the last estimate, and the variance of all fresh noise in z
    for (p, q, a, b, c), alpha, sigma in zip(table.rows, *levels(path, table), strict=True):
        gain = alpha * deviation**2 / (alpha**2 * deviation**2 + sigma**2)  # E[z_0 | z] = mean + gain (z - alpha mean)
        estimate = gain * z + np.array([mean * (1 - gain * alpha), 0.0])
        output = estimate if path.objective == "flow" else (z - alpha * estimate) / sigma
        denoised = p * z + q * output
        np.testing.assert_allclose(denoised, estimate, atol=1e-9)  # p and q undo what the network predicts
        slope = a + b * gain
        if table.extra == "noise":
            fresh = slope**2 * fresh + c**2
        z = a * z + b * denoised + (c * previous if table.extra == "previous" else 0.0)
        previous = denoised
    return z[0], math.sqrt(z[1] ** 2 + fresh)


@pytest.mark.parametrize(("name", "objective"), PAIRS)
def test_an_exact_network_gives_the_data_back(name, objective):
    path = ProbabilityPath(objective=objective)
    error = [abs(moments(path, name, steps, mean=0.7, deviation=0.5)[1] - 0.5) for steps in (5, 20, 100, 500)]
    assert error == sorted(error, reverse=True)
    assert error[-1] < 1e-2
    # The DDPM path starts at alpha = 0.006, not 0, as if its noise had a part of the mean: 0.006 * 0.7 * 0.5 = 0.002.
    assert moments(path, name, 500, mean=0.7, deviation=0.5)[0] == pytest.approx(0.7, abs=3e-3)


def deviation_error(path, name, steps):
    return abs(moments(path, name, steps, mean=0.0, deviation=1.0)[1] - 1.0)


@pytest.mark.parametrize(("first_order", "path"), [("ddim", EPSILON), ("euler", ProbabilityPath(objective="flow"))])
def test_dpmpp_is_of_second_order_and_the_others_of_first(first_order, path):
    assert deviation_error(path, first_order, 40) / deviation_error(path, first_order, 200) == pytest.approx(5, rel=0.1)
    assert deviation_error(path, "dpmpp", 40) / deviation_error(path, "dpmpp", 200) > 15
    for steps in (20, 50, 100):
        assert deviation_error(path, "dpmpp", steps) < deviation_error(path, first_order, steps) / 10


@pytest.mark.parametrize(("name", "objective"), PAIRS)
def test_a_perfect_estimate_keeps_the_sample_on_its_path(name, objective):
    # z = alpha z_0 + sigma noise and denoised = z_0 must lead to alpha' z_0 + sigma' noise. DDPM replaces part of the noise,
    # so there the deviation must come to sigma'.
    path = ProbabilityPath(objective=objective)
    table = sampler_table(path, name, 10)
    alpha, sigma = levels(path, table)
    for i, (_, _, a, b, c) in enumerate(table.rows[:-1]):
        same = c if table.extra == "previous" else 0.0
        assert a * alpha[i] + b + same == pytest.approx(alpha[i + 1], abs=1e-9)
        kept = math.hypot(a * sigma[i], c) if table.extra == "noise" else a * sigma[i]
        assert kept == pytest.approx(sigma[i + 1], abs=1e-9)


def test_the_ddpm_path_preserves_variance():
    power = sampler.alphas_cumprod()
    alpha, sigma = sampler._ddpm_levels(np.arange(1000))
    np.testing.assert_allclose(alpha**2 + sigma**2, 1.0, rtol=1e-15)
    assert power[0] == pytest.approx(1 - 1e-4, rel=1e-15)
    assert power[1] / power[0] == pytest.approx(1 - (1e-4 + (2e-2 - 1e-4) / 999), rel=1e-14)
    assert power[999] / power[998] == pytest.approx(1 - 2e-2, rel=1e-14)


@pytest.mark.parametrize(("name", "objective"), PAIRS)
def test_every_number_of_steps_has_a_table(name, objective):
    for steps in range(1, 1001):
        table = sampler_table(ProbabilityPath(objective=objective), name, steps)
        assert len(table) == steps  # diffusers makes 62 DDIM steps of 61
        assert (np.diff(table.t) < 0).all()
        assert table.t[0] == (1000 if objective == "flow" else 999)
        assert table.t[-1] >= 0
        assert np.isfinite(table.rows).all()


@pytest.mark.parametrize(("name", "objective"), PAIRS)
@pytest.mark.parametrize("steps", [*STEPS, 61, 1000])
def test_the_last_step_returns_the_estimate_itself(name, objective, steps):
    *_, a, b, c = sampler_table(ProbabilityPath(objective=objective), name, steps).rows[-1].astype(np.float32)
    assert (a, b, c) == (0.0, 1.0, 0.0)


@given(u=st.floats(0, 1), shift=st.floats(0.1, 10))
def test_the_shift_maps_the_unit_interval_onto_itself(u, shift):
    assert shifted(np.array([0.0, 1.0]), shift).tolist() == [0.0, 1.0]
    assert shifted(shifted(np.array(u), shift), 1 / shift) == pytest.approx(u, abs=1e-12)


def test_a_shift_moves_the_steps_towards_the_noise():
    # u = 1, 3/4, 1/2, 1/4 and shift 3: 3u / (1 + 2u) = 1, 9/10, 3/4, 1/2
    assert sampler_table(FLOW, "euler", 4).t == pytest.approx([1000, 900, 750, 500])


def test_time_features_are_the_sinusoids_of_the_paper():
    times = [0.0, 1.0, 123.456, 999.0, 1000.0]
    features = time_features(np.array(times), 32)
    assert features.dtype == np.float32
    for row, t in zip(features, times, strict=True):
        angles = [t / 10_000 ** (i / 16) for i in range(16)]
        expected = [math.cos(angle) for angle in angles] + [math.sin(angle) for angle in angles]
        np.testing.assert_allclose(row, expected, rtol=0, atol=6e-8)  # half a unit of float32 at 1


@pytest.mark.parametrize(
    ("path", "name", "steps", "message"),
    [
        (EPSILON, "heun", 4, "Use one of: ddim, ddpm, dpmpp."),
        (EPSILON, "euler", 4, "Use one of: ddim, ddpm, dpmpp."),
        (FLOW, "ddim", 4, "Use one of: euler, dpmpp."),
        (FLOW, "", 4, "Use one of: euler, dpmpp."),
        (FLOW, "euler", 0, "Use 1 to 1000 steps."),
        (EPSILON, "ddim", 1001, "Use 1 to 1000 steps."),
        (EPSILON, "ddim", -1, "Use 1 to 1000 steps."),
    ],
)
def test_what_cannot_be_sampled_is_refused_with_a_remedy(path, name, steps, message):
    with pytest.raises(ParameterError) as error:
        sampler_table(path, name, steps)
    assert str(error.value).endswith(message)


@pytest.mark.parametrize(
    "fields",
    [{"objective": "velocity"}, *({"objective": "flow", "shift": shift} for shift in (0.0, -1.0, math.inf, math.nan))],
)
def test_a_path_that_does_not_exist_is_refused(fields):
    with pytest.raises(ParameterError, match="Use"):
        ProbabilityPath(**fields)
