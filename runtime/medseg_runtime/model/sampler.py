"""Samplers as tables of coefficients.

Every sampler here is, per step and with scalars known beforehand,

    out      = f(z, t, condition)          the network
    denoised = p z + q out                 its estimate of the clean latent
    z'       = a z + b denoised + c extra  the next latent

where `extra` is nothing (DDIM, Euler), fresh noise (DDPM) or the previous step's `denoised` (DPM-Solver++ 2M). The functions below
return the rows (t, p, q, a, b, c) in float64. The exported denoiser runs one row per call, whichever sampler the row belongs to.
`tests/runtime/model/test_sampler.py` compares each with the diffusers scheduler of that name.

Two families of paths from data to noise, both written z_t = alpha_t z_0 + sigma_t noise:

    epsilon   discrete DDPM, linear beta (Ho et al. 2020, arXiv 2006.11239; MedSegLatDiff, Eqs. 2-5), T = 1000
    flow      straight path alpha = 1 - u, sigma = u, t = 1000 u (conditional flow matching; LatentFM, arXiv 2512.04821)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from medseg_runtime.errors import ParameterError

Float64 = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]
Objective = Literal["epsilon", "flow"]
Prediction = Literal["epsilon", "sample"]
Extra = Literal["none", "noise", "previous"]

NUM_TRAIN_TIMESTEPS = 1000
BETA_START, BETA_END = 1e-4, 2e-2
MAX_PERIOD = 10_000.0


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbabilityPath:
    """The path from data to noise that the network was trained on, and what it predicts."""

    objective: Objective
    """`epsilon`: the network predicts the noise of a discrete DDPM. `flow`: the clean latent of a straight path."""
    shift: float = 1.0
    """Flow only: u' = shift u / (1 + (shift - 1) u) moves the steps towards the noise (Esser et al. 2024, Eq. 23)."""

    def __post_init__(self) -> None:
        if self.objective not in ("epsilon", "flow"):
            raise ParameterError(f"objective {self.objective!r} is not known", "Use 'epsilon' or 'flow'.")
        if not (np.isfinite(self.shift) and self.shift > 0):
            raise ParameterError(f"a schedule shift of {self.shift} is not positive", "Use a shift of 1 or more.")

    @property
    def prediction(self) -> Prediction:
        """What the network's output is: the noise (`epsilon`) or the clean latent (`sample`)."""
        return "epsilon" if self.objective == "epsilon" else "sample"


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplerTable:
    """One sampler at one number of steps."""

    sampler: str
    t: Float64
    """(S,) network time of each step, in [0, 1000)."""
    rows: Float64
    """(S, 5) coefficients p, q, a, b, c of each step."""
    extra: Extra
    """What the denoiser's input `extra` holds."""

    def __len__(self) -> int:
        return len(self.t)


def alphas_cumprod() -> Float64:
    """Return the signal power alpha_bar_t of the linear-beta DDPM, (1000,), decreasing in (0, 1)."""
    return np.cumprod(1.0 - np.linspace(BETA_START, BETA_END, NUM_TRAIN_TIMESTEPS), dtype=np.float64)


def time_features(t: Float64, width: int) -> Float32:
    """Return the sinusoids of the network time (Vaswani et al. 2017, section 3.5), computed in float64.

    They are an input of the denoiser graph and not part of it: sin and cos of t x frequency would be the largest error of a
    low-precision graph.

    t: (S,) network times in [0, 1000].
    Returns (S, width): cosines, then sines.
    """
    half = width // 2
    frequency = np.exp(-np.log(MAX_PERIOD) * np.arange(half) / half)
    angle = np.asarray(t, np.float64)[:, None] * frequency
    return np.concatenate([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)


def shifted(u: Float64, shift: float) -> Float64:
    """Return u' = shift u / (1 + (shift - 1) u), which maps [0, 1] onto itself (Esser et al. 2024, Eq. 23)."""
    return shift * u / (shift * u + (1.0 - u))  # of the two forms, the one that is exactly 1 at u = 1


def _flow_levels(steps: int, shift: float) -> tuple[Float64, Float64, Float64]:
    """Return t (S,), alpha and sigma (S + 1,) from pure noise to data, evenly spaced before the shift."""
    u = shifted(np.linspace(1.0, 0.0, steps + 1), shift)
    return NUM_TRAIN_TIMESTEPS * u[:-1], 1.0 - u, u


def _ddpm_timesteps(steps: int) -> npt.NDArray[np.int64]:
    """Return decreasing "trailing" timesteps. The first is T - 1, the level of pure noise."""
    # The slice drops a 0 that rounding adds for 62 numbers of steps, 61 the smallest; diffusers keeps it, and ends in noise.
    spaced = np.arange(NUM_TRAIN_TIMESTEPS, 0, -NUM_TRAIN_TIMESTEPS / steps)[:steps]
    return np.round(spaced).astype(np.int64) - 1


def _ddpm_levels(t: npt.NDArray[np.int64]) -> tuple[Float64, Float64]:
    """Return alpha and sigma (S + 1,) at the timesteps t, and last at the data: alpha 1, sigma 0."""
    power = np.append(alphas_cumprod()[t], 1.0)
    return np.sqrt(power), np.sqrt(1.0 - power)


def _estimate(path: ProbabilityPath, alpha: Float64, sigma: Float64) -> tuple[Float64, Float64]:
    """Return p and q (S,) of denoised = p z + q out. alpha, sigma: (S,)."""
    if path.prediction == "epsilon":
        return 1.0 / alpha, -sigma / alpha
    return np.zeros_like(alpha), np.ones_like(alpha)


def _deterministic(path: ProbabilityPath, sampler: str, t: Float64, alpha: Float64, sigma: Float64) -> SamplerTable:
    """Keep the noise in z and move to the next level: z' = alpha' denoised + sigma' (z - alpha denoised) / sigma."""
    p, q = _estimate(path, alpha[:-1], sigma[:-1])
    a = sigma[1:] / sigma[:-1]
    b = alpha[1:] - alpha[:-1] * a
    return SamplerTable(sampler=sampler, t=t, rows=np.stack([p, q, a, b, np.zeros_like(a)], axis=1), extra="none")


def ddim(path: ProbabilityPath, steps: int) -> SamplerTable:
    """DDIM without noise (Song et al. 2021, Eq. 12 with eta = 0), trailing timesteps."""
    t = _ddpm_timesteps(steps)
    return _deterministic(path, "ddim", t.astype(np.float64), *_ddpm_levels(t))


def euler(path: ProbabilityPath, steps: int) -> SamplerTable:
    """Euler's method on the straight path: z' = z + (u' - u) (z - denoised) / u."""
    return _deterministic(path, "euler", *_flow_levels(steps, path.shift))


def ddpm(path: ProbabilityPath, steps: int) -> SamplerTable:
    """DDPM ancestral sampling: posterior mean and fixed variance beta_tilde (Ho et al. 2020, Eqs. 6-7).

    The reverse equation of MedSegLatDiff is reported to be inconsistent; this is the standard posterior.
    """
    t = _ddpm_timesteps(steps)
    alpha, sigma = _ddpm_levels(t)
    p, q = _estimate(path, alpha[:-1], sigma[:-1])
    step_alpha = (alpha[:-1] / alpha[1:]) ** 2  # alpha_t of the step, 1 - beta_t
    a = np.sqrt(step_alpha) * sigma[1:] ** 2 / sigma[:-1] ** 2
    b = alpha[1:] * (1.0 - step_alpha) / sigma[:-1] ** 2
    c = np.sqrt((1.0 - step_alpha) * sigma[1:] ** 2 / sigma[:-1] ** 2)  # 0 in the last step
    return SamplerTable(sampler="ddpm", t=t.astype(np.float64), rows=np.stack([p, q, a, b, c], axis=1), extra="noise")


def dpmpp(path: ProbabilityPath, steps: int) -> SamplerTable:
    """DPM-Solver++ 2M (Lu et al. 2022, arXiv 2211.01095, Algorithm 2), first order in the first and the last step."""
    if path.objective == "flow":
        t, alpha, sigma = _flow_levels(steps, path.shift)
    else:
        timesteps = _ddpm_timesteps(steps)
        t, (alpha, sigma) = timesteps.astype(np.float64), _ddpm_levels(timesteps)
    p, q = _estimate(path, alpha[:-1], sigma[:-1])
    a = sigma[1:] / sigma[:-1]
    first_order = alpha[1:] - alpha[:-1] * a  # = -alpha' (exp(-h) - 1), finite also where sigma' = 0
    correction = np.zeros(steps)
    if steps > 2:
        with np.errstate(divide="ignore"):
            half_log_snr = np.log(alpha) - np.log(sigma)
        h = np.diff(half_log_snr)
        inner = slice(1, steps - 1)
        # flow starts at alpha = 0, where h is infinite: the previous estimate then has no weight
        correction[inner] = h[inner] / (2.0 * h[: steps - 2])
    b, c = first_order * (1.0 + correction), -first_order * correction
    return SamplerTable(sampler="dpmpp", t=t, rows=np.stack([p, q, a, b, c], axis=1), extra="previous")


SAMPLERS: dict[str, tuple[Callable[[ProbabilityPath, int], SamplerTable], tuple[Objective, ...]]] = {
    "ddim": (ddim, ("epsilon",)),
    "ddpm": (ddpm, ("epsilon",)),
    "euler": (euler, ("flow",)),
    "dpmpp": (dpmpp, ("epsilon", "flow")),
}
"""Name -> (function, objectives it can sample)."""


def sampler_table(path: ProbabilityPath, sampler: str, steps: int) -> SamplerTable:
    """Return the table of a sampler.

    sampler: a key of `SAMPLERS`.
    steps: number of network calls per sample, 1 to 1000.

    Raises:
        ParameterError: no such sampler, not for this objective, or steps out of range.
    """
    fitting = ", ".join(name for name, (_, objectives) in SAMPLERS.items() if path.objective in objectives)
    if sampler not in SAMPLERS or path.objective not in SAMPLERS[sampler][1]:
        raise ParameterError(
            f"sampler {sampler!r} cannot sample a model trained with the {path.objective} objective",
            f"Use one of: {fitting}.",
        )
    if not 1 <= steps <= NUM_TRAIN_TIMESTEPS:
        raise ParameterError(f"{steps} steps is out of range", f"Use 1 to {NUM_TRAIN_TIMESTEPS} steps.")
    return SAMPLERS[sampler][0](path, steps)
