"""Command-line options of `medseg-export` and `medseg-export build` that say which TensorRT engines to build."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medseg_runtime.backends.gpu.tensorrt.engine_files import Flags, Hardware

if TYPE_CHECKING:
    from medseg_export.engines.to_tensorrt import Target

PANEL = "TensorRT engines"
DEFAULT_SAMPLES = ("1,16,64", "16")
"""Any number of samples from 1 to 64, and the default number at its fastest."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineOptions:
    """One field per option: its type, its name and its help."""

    trt: Annotated[
        bool,
        typer.Option("--trt", help="Build for the GPU in this machine, with TensorRT.", rich_help_panel=PANEL),
    ] = False
    trt_rtx: Annotated[
        bool,
        typer.Option(
            "--trt-rtx",
            help="Build ahead of time for RTX GPUs, with TensorRT-RTX. Needs no GPU.",
            rich_help_panel=PANEL,
        ),
    ] = False
    sm: Annotated[
        str | None,
        typer.Option(
            help="Compute capabilities for --trt-rtx. Default: 86,89,120.",
            metavar="SM,...",
            rich_help_panel=PANEL,
        ),
    ] = None
    trt_samples: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MIN,OPT,MAX",
            help="Range of samples per call, fastest at OPT; or one number, which is faster and excludes all others. "
            "May be repeated; each range adds the same build time again. "
            f"Default: {' and '.join(DEFAULT_SAMPLES)}.",
            rich_help_panel=PANEL,
        ),
    ] = None
    trt_workspace: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="MIB",
            help="Largest scratch memory of a layer. A low limit excludes the fastest kernels. Default: all GPU memory.",
            rich_help_panel=PANEL,
        ),
    ] = None
    trt_level: Annotated[
        int,
        typer.Option(
            min=0,
            max=5,
            metavar="0-5",
            help="How long the builder searches. 5 takes many times longer than 3 and gains a few per cent; engines "
            "below 3 are slower.",
            rich_help_panel=PANEL,
        ),
    ] = 3
    trt_hardware: Annotated[
        Hardware,
        typer.Option(
            metavar="GPUS",
            help="Which other GPUs may run the engines: none, same_compute_capability or ampere_plus. Compatible "
            "engines are slower. Not with --trt-rtx.",
            rich_help_panel=PANEL,
        ),
    ] = "none"
    trt_version_compatible: Annotated[
        bool,
        typer.Option(
            "--trt-version-compatible",
            help="Let later TensorRT releases of the same major version run the engines, which are then larger and "
            "may be slower.",
            rich_help_panel=PANEL,
        ),
    ] = False
    trt_float32: Annotated[
        bool,
        typer.Option(
            "--trt-float32",
            help="Build from the float32 graphs: the masks of the CPU, at half the speed of float16 or less.",
            rich_help_panel=PANEL,
        ),
    ] = False

    @property
    def any(self) -> bool:
        """Whether engines are to be built."""
        return self.trt or self.trt_rtx

    def targets(self) -> list[Target]:
        """Return the targets to build for; empty if no engines are to be built.

        Raises:
            ParameterError: an option cannot be read.
            EngineError: a library, or the GPU it needs, is missing.
        """
        from medseg_export.engines.target import targets

        return targets(
            trt=self.trt,
            trt_rtx=self.trt_rtx,
            sm=self.sm,
            samples=list(self.trt_samples or DEFAULT_SAMPLES),
            flags=Flags(
                version_compatible=self.trt_version_compatible,
                hardware=self.trt_hardware,
                workspace_mib=self.trt_workspace,
                optimization_level=self.trt_level,
            ),
        )


def with_engine_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add one option per field of `EngineOptions` to a typer command, which takes them as its keyword argument `engines`."""
    names = [field.name for field in fields(EngineOptions)]

    @wraps(command)
    def run(**given: Any) -> None:
        engines = EngineOptions(**{name: given.pop(name) for name in names})
        command(**given, engines=engines)

    own = inspect.signature(command, eval_str=True).parameters.values()
    options = inspect.signature(EngineOptions, eval_str=True).parameters.values()
    parameters = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for parameter in (*own, *options)
        if parameter.name != "engines"
    ]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # typer reads it
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run
