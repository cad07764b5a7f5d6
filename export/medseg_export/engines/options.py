"""The options of `medseg-export` and `medseg-export build` that say which engines to build, each with what it costs."""

from __future__ import annotations

from typing import Annotated

import typer

from medseg_runtime.backends.gpu.tensorrt.engine_files import Hardware

PANEL = "TensorRT engines"
Trt = Annotated[bool, typer.Option("--trt", help="For the GPU in this machine, with TensorRT.", rich_help_panel=PANEL)]
TrtRtx = Annotated[
    bool,
    typer.Option(
        "--trt-rtx", help="Ahead of time for RTX GPUs, with TensorRT-RTX; needs no GPU.", rich_help_panel=PANEL
    ),
]
Sm = Annotated[
    str | None,
    typer.Option(
        help="Compute capabilities for --trt-rtx; without it 86,89,120.", metavar="SM,...", rich_help_panel=PANEL
    ),
]
Samples = Annotated[
    list[str],
    typer.Option(
        "--trt-samples",
        metavar="MIN,OPT,MAX",
        help="Samples per call that the engines take, and are fastest for; one number: that one only, and faster. May be repeated; "
        "each builds as long again.",
        rich_help_panel=PANEL,
    ),
]
Workspace = Annotated[
    int | None,
    typer.Option(
        "--trt-workspace",
        min=1,
        metavar="MIB",
        help="Most scratch memory of a layer, without it all that the GPU has; little of it rules out the fastest kernels.",
        rich_help_panel=PANEL,
    ),
]
Level = Annotated[
    int,
    typer.Option(
        "--trt-level",
        min=0,
        max=5,
        help="How long the builder searches: at 5 many times longer than at 3, for some per cent; below 3 engines are slower.",
        rich_help_panel=PANEL,
    ),
]
Compatible = Annotated[
    Hardware,
    typer.Option(
        "--trt-hardware",
        help="Other GPUs that may run the engines; they are then slower than engines tuned for one GPU. Not with --trt-rtx.",
        rich_help_panel=PANEL,
    ),
]
VersionCompatible = Annotated[
    bool,
    typer.Option(
        "--trt-version-compatible",
        help="Let later TensorRT of the same major version run the engines: they are larger, and may be slower.",
        rich_help_panel=PANEL,
    ),
]
Float32 = Annotated[
    bool,
    typer.Option(
        "--trt-float32",
        help="Build from the float32 graphs: the CPU's masks, at half the speed of float16 or less.",
        rich_help_panel=PANEL,
    ),
]
DEFAULT_SAMPLES = ["1,16,64", "16"]
"""Any number of samples, and the default one at its fastest."""
