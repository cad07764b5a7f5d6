"""Multiply-accumulates of a network; without torch, so that timed processes do not load it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """Multiply-accumulates of one call on N samples."""

    common: int
    """Independent of N: the encoder, and the denoiser's convolution of the condition."""
    per_sample: int

    def of(self, samples: int) -> int:
        """Return the multiply-accumulates of a call on `samples` samples."""
        return self.common + samples * self.per_sample
