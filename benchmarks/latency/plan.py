"""What a run measures: the same suites at three sizes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """How much of everything."""

    name: str
    bundles: tuple[str, ...]
    """`shipped`, and names of `medseg_trainer.config.presets` with random weights."""
    samples: tuple[int, ...]
    steps: tuple[int, ...]
    whole_grid: bool
    """Every N with every S, on one thread too; otherwise one varies while the other stays at its default."""
    cell_seconds: float
    """Time spent on a cell of the grid, after one call to warm it."""
    least_rounds: int
    threads: int | None
    """Of the contest; None: all cores."""
    contest_rounds: int
    gemm_sides: tuple[int, ...]
    """Sides of the square matrices that the peak is looked for with."""
    field_divisor: int
    """By how much the pixel-space and deterministic peers are made smaller than they should be; 1 but for a smoke run."""
    starts: int
    """Cold starts; the second of each is measured twice."""
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
