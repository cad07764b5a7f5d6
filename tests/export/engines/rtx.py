"""Targets and plans of TensorRT-RTX, whose parser and builder need no GPU. Import only where it is installed."""

import io
from dataclasses import replace

import tensorrt_rtx
from rich.console import Console
from rich.progress import Progress

from medseg_export.engines.target import target_ahead
from medseg_export.engines.to_tensorrt import build_plan
from medseg_runtime.backends.gpu.tensorrt.engine_files import Flags, Profile

PLAIN = Flags(version_compatible=False, hardware="none", workspace_mib=None, optimization_level=3)
WIDE, STATIC = Profile(min=1, opt=4, max=64), Profile(min=4, opt=4, max=4)
VERSION = tensorrt_rtx.__version__
GRAPHS = ("encoder", "denoiser", "decoder")


def target(*sm, profiles=(WIDE,), **flags):
    return target_ahead(sm or (86,), profiles, replace(PLAIN, **flags))


def silent():
    return Progress(console=Console(file=io.StringIO()), disable=True)


def planned(target, name, graph, content):
    plan, _ = build_plan(target, name, graph, content, b"", silent())
    return plan


def graphs_of(bundle, precision):
    return (bundle.manifest.graphs, bundle.graphs) if precision == "float32" else (bundle.manifest.half, bundle.half)
