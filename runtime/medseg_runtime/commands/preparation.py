"""What is done once, before the first image: the jobs are planned, their folders checked, the model loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from medseg_runtime.backends.auto.select import COMPARISON_UNFINISHED
from medseg_runtime.backends.base import BackendName, PrecisionName
from medseg_runtime.backends.registry import BACKENDS
from medseg_runtime.commands.inputs import Job, plan
from medseg_runtime.commands.program import warn
from medseg_runtime.files import cache
from medseg_runtime.files.publish import check_output
from medseg_runtime.inference.segmenter import Segmenter
from medseg_runtime.machine.threads import threads_for
from medseg_runtime.writers.folder import RESULT


def plan_jobs(
    program: str, images: list[Path], out: Path | None, *, as_series: bool, force: bool, html: bool
) -> list[Job]:
    """List the jobs, and check that each result folder may be written.

    as_series: a folder is one series, not many images. html: several images get an index of their reports.

    Raises:
        ImageError: a folder without images.
        OutputError: a folder may not be written.
    """
    planned = plan(images, out, as_series=as_series)
    for warning in planned.warnings:
        warn(program, warning)
    for job in planned.jobs:
        check_output(job.out, RESULT, force=force)
    if html and len(planned.jobs) > 1:
        from medseg_runtime.writers.html.index import check_index

        check_index(planned.jobs[0].out.parent)
    return list(planned.jobs)


def load_model(
    program: str, bundle: Path | None, backend: str, precision: str, *, cuda_graphs: bool, images: int, **trust: Any
) -> Segmenter:
    """Load the model, with the number of threads that suits this many images.

    trust: what `Segmenter.load` takes about whom to trust.

    Raises:
        BundleError, ParameterError, BackendError: as `Segmenter.load`.
    """
    on_gpu = backend in BACKENDS and BACKENDS[backend].device == "gpu"
    segmenter = Segmenter.load(
        bundle,
        backend=cast(BackendName, backend),  # other names are refused there
        precision=cast(PrecisionName, precision),
        threads=None if on_gpu else threads_for(images),
        cuda_graphs=cuda_graphs,
        **trust,
    )
    if segmenter.backend.why == COMPARISON_UNFINISHED:
        warn(program, f"{segmenter.backend.name} is used: {COMPARISON_UNFINISHED}")
    if problem := cache.problem():
        warn(program, f"the cache folder {problem}; it is not used. Run medseg-doctor.")
    return segmenter
