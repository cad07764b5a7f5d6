"""What a run measures: the same parts at three sizes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """Sizes of all parts."""

    name: str
    bundles: tuple[str, ...]
    """`shipped`, and names of `medseg_trainer.config.presets` with random weights."""
    samples: tuple[int, ...]
    steps: tuple[int, ...]
    whole_grid: bool
    """Measure every N with every S, on one thread too. Otherwise vary one, with the other at its default."""
    cell_seconds: float
    """Time per cell of the grid, after one warm-up call."""
    least_rounds: int
    threads: int | None
    """Threads of the contest; None: all cores."""
    contest_rounds: int
    gemm_sides: tuple[int, ...]
    """Sides of the square matrices, candidates for the peak."""
    field_divisor: int
    """Divisor of the sizes of the pixel-space and deterministic peers; 1 except in a smoke run."""
    starts: int
    """First starts with an empty cache; each is followed by two second starts."""
    memory_samples: tuple[int, ...]
    agreement_images: int
    folder_crops: int
    folder_rounds: int


SMOKE = Plan(
    name="smoke",
    bundles=("shipped", "tiny"),
    samples=(1, 2),
    steps=(1,),
    whole_grid=False,
    cell_seconds=0.01,
    least_rounds=1,
    threads=1,
    contest_rounds=1,
    gemm_sides=(256,),
    field_divisor=8,
    starts=1,
    memory_samples=(2,),
    agreement_images=2,
    folder_crops=3,
    folder_rounds=1,
)
QUICK = Plan(
    name="quick",
    bundles=("shipped", "photo"),
    samples=(1, 4, 16, 64),
    steps=(1, 2, 4, 10),
    whole_grid=False,
    cell_seconds=1.0,
    least_rounds=5,
    threads=None,
    contest_rounds=10,
    gemm_sides=(1024, 2048, 3072),
    field_divisor=1,
    starts=5,
    memory_samples=(1, 4, 16, 64),
    agreement_images=100,
    folder_crops=200,
    folder_rounds=2,
)
FULL = Plan(
    name="full",
    bundles=("shipped", "photo"),
    samples=(1, 4, 16, 64),
    steps=(1, 2, 4, 10),
    whole_grid=True,
    cell_seconds=3.0,
    least_rounds=10,
    threads=None,
    contest_rounds=30,
    gemm_sides=(1024, 2048, 3072, 4096),
    field_divisor=1,
    starts=10,
    memory_samples=(1, 4, 16, 64),
    agreement_images=100,
    folder_crops=200,
    folder_rounds=4,
)
PLANS = {plan.name: plan for plan in (SMOKE, QUICK, FULL)}
