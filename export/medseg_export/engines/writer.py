"""Build engines into a bundle, with their record. Needs neither torch nor onnx, so that a device can build its own engines."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

from rich.progress import Progress

from medseg_export.engines.cache import cached_plan
from medseg_export.engines.to_tensorrt import Target
from medseg_runtime.backends.gpu.tensorrt.engine_files import ENGINES, RECORD_NAME, EngineRecord, Plan, target_name
from medseg_runtime.errors import EngineError, OutputError
from medseg_runtime.files.names import printable
from medseg_runtime.files.publish import FolderKind, check_output, published
from medseg_runtime.model.authenticity import SUFFIX
from medseg_runtime.model.bundle import Bundle, Graph
from medseg_runtime.model.signatures import GraphName

PLAN_FILES: dict[GraphName, str] = {name: f"{name}.plan" for name in get_args(GraphName)}
ENGINE = FolderKind("engine", RECORD_NAME, frozenset({RECORD_NAME, f"{RECORD_NAME}{SUFFIX}", *PLAN_FILES.values()}))


def build_engines(
    bundle: Bundle, target: Target, progress: Progress, *, float32: bool = False
) -> tuple[Path, EngineRecord]:
    """Build the three engines of a bundle. Older engines of the same target are replaced, all three at once.

    float32: build from the float32 graphs instead of the low-precision ones.

    Returns: the folder that was written, and its record.

    Raises:
        EngineError: the bundle has no low-precision graphs, or the library rejects a graph, a profile or an option.
        OutputError: the bundle cannot be written to.
    """
    graphs, contents = _sources(bundle, float32=float32)
    out = bundle.folder / ENGINES / target_name(target.library, target.compute_capabilities)
    try:
        check_output(out, ENGINE, force=True)
        plans = {name: cached_plan(target, name, graph, contents[name], progress) for name, graph in graphs.items()}
        record = _record(target, graphs, plans)
        with published(out, ENGINE, force=True) as partial:
            for name, plan in plans.items():
                (partial / PLAN_FILES[name]).write_bytes(plan)
            (partial / RECORD_NAME).write_text(record.to_json())
    except OutputError as error:
        raise OutputError(error.problem, "Copy the bundle to a writable folder, and build there.") from error
    return out, record


def _sources(bundle: Bundle, *, float32: bool) -> tuple[dict[GraphName, Graph], dict[GraphName, bytes]]:
    """Return the graphs to build from. Never fall back from low precision to float32, which is slower."""
    if float32:
        return bundle.manifest.graphs, bundle.graphs
    if not bundle.half:
        raise EngineError(
            f"the bundle {printable(bundle.folder)} has no float16 graphs",
            "Export it again with `medseg-export --half`, or build engines in float32 with `--trt-float32`.",
        )
    return bundle.manifest.half, bundle.half


def _record(target: Target, graphs: dict[GraphName, Graph], plans: dict[GraphName, bytes]) -> EngineRecord:
    return EngineRecord(
        library=target.library,
        version=target.version,
        precision=graphs["denoiser"].precision,
        gpu=None if target.gpu is None else target.gpu.name,
        compute_capabilities=target.compute_capabilities,
        profiles=target.profiles,
        flags=target.flags,
        plans={
            name: Plan(
                file=PLAN_FILES[name],
                sha256=hashlib.sha256(plan).hexdigest(),
                bytes=len(plan),
                source_sha256=graphs[name].sha256,
            )
            for name, plan in plans.items()
        },
        built=datetime.now(UTC).date().isoformat(),
        driver=None if target.gpu is None else target.gpu.driver,
        cuda=None if target.gpu is None else target.gpu.cuda,
    )
