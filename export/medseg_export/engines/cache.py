"""Cache plans and kernel timings in the user's cache folder, so that an unchanged engine is not built again.

tensorrt/<key>.plan                            key: a hash of everything that determines the plan
tensorrt/<library>-<version>-<GPU>.timing      TensorRT's timing cache, which speeds up later builds
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re

from rich.progress import Progress

from medseg_export.engines.to_tensorrt import Target, build_plan
from medseg_runtime.files import cache
from medseg_runtime.model.bundle import Graph
from medseg_runtime.model.signatures import GraphName


def cached_plan(target: Target, name: GraphName, graph: Graph, content: bytes, progress: Progress) -> bytes:
    """Return the plan of a graph, from the cache or newly built and then cached.

    content: the ONNX file.

    Raises:
        EngineError: see `build_plan`.
    """
    key, timings = plan_key(target, graph.sha256), _timing_name(target)
    kept, earlier = cache.load(key), cache.load(timings)
    if kept is not None:
        return kept.content
    plan, timing = build_plan(target, name, graph, content, b"" if earlier is None else earlier.content, progress)
    cache.store(key, plan)
    if timing:
        cache.store(timings, timing)
    return plan


def plan_key(target: Target, source_sha256: str) -> str:
    """Return the name of a plan in the cache: a hash of graph, library, GPU, profiles and flags."""
    facts = {
        "graph": source_sha256,
        "library": [target.library, target.version],
        "gpu": None if target.gpu is None else target.gpu.name,
        "compute capabilities": target.compute_capabilities,
        "profiles": [dataclasses.asdict(profile) for profile in target.profiles],
        "flags": dataclasses.asdict(target.flags),
    }
    return f"tensorrt/{hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()}.plan"


def _timing_name(target: Target) -> str:
    gpu = "none" if target.gpu is None else re.sub(r"\W+", "-", target.gpu.name)
    return f"tensorrt/{target.library}-{target.version}-{gpu}.timing"
