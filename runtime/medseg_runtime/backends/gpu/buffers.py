"""Which device buffer each step reads and writes, so that S steps need no copy between them.

    step 0    noise  -> spare     step 1    spare  -> final     (S = 2; the last step always writes `final`)
    step 0    noise  -> final     step 1    final  -> spare     step 2    spare  -> final     (S = 3)

The estimates of the clean latent alternate too, because DPM-Solver++ reads the previous one while it writes the next.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from medseg_runtime.model.sampler import Extra

Buffer = Literal["noise", "final", "spare", "zeros", "fresh", "even", "odd"]
"""Latents (N, Z, h, w) on the device. `noise` and `fresh` come from the host, `zeros` never changes."""


@dataclass(frozen=True, slots=True)
class StepBuffers:
    """The buffers of one step, by the denoiser's names for them."""

    latent: Buffer
    extra: Buffer
    next_latent: Buffer
    denoised: Buffer


def step_buffers(steps: int, extra: Extra) -> tuple[StepBuffers, ...]:
    """Return the buffers of S steps."""
    latents: list[Buffer] = ["noise", *("final" if (steps - step) % 2 else "spare" for step in range(steps))]
    estimates: tuple[Buffer, Buffer] = ("even", "odd")
    return tuple(
        StepBuffers(
            latent=latents[step],
            extra=_extra(extra, estimates[1 - step % 2], first=step == 0),
            next_latent=latents[step + 1],
            denoised=estimates[step % 2],
        )
        for step in range(steps)
    )


def _extra(extra: Extra, previous: Buffer, *, first: bool) -> Buffer:
    if extra == "noise":
        return "fresh"
    return (
        "zeros" if extra == "none" or first else previous
    )  # before the first step `previous` holds another image's estimate
