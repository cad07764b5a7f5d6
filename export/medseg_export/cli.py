"""medseg-export: a training run in, a bundle out; or a bundle in, engines beside its graphs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medseg_export.engines.options import (
    DEFAULT_SAMPLES,
    Compatible,
    Float32,
    Level,
    Samples,
    Sm,
    Trt,
    TrtRtx,
    VersionCompatible,
    Workspace,
)
from medseg_runtime.backends.gpu.tensorrt.engine_files import Flags
from medseg_runtime.commands.program import run_command

if TYPE_CHECKING:
    from medseg_export.engines.to_tensorrt import Target
    from medseg_runtime.model.bundle import Bundle

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, invoke_without_command=True)


@app.callback()
def export(
    context: typer.Context,
    ckpt: Annotated[Path | None, typer.Option(help="Run folder of `medseg-train fit`. (required)")] = None,
    out: Annotated[Path | None, typer.Option(help="Bundle folder to write. (required)")] = None,
    steps: Annotated[int | None, typer.Option(help="Default number of sampling steps of the bundle.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the bundle if it exists.")] = False,
    half: Annotated[
        bool, typer.Option("--half", help="Also write float16 graphs for GPUs; --trt and --trt-rtx imply it.")
    ] = False,
    data: Annotated[
        Path | None, typer.Option(help="Data set whose val images float16 is judged on; else one synthetic image.")
    ] = None,
    trt: Trt = False,
    trt_rtx: TrtRtx = False,
    sm: Sm = None,
    trt_samples: Samples = DEFAULT_SAMPLES,
    trt_workspace: Workspace = None,
    trt_level: Level = 3,
    trt_hardware: Compatible = "none",
    trt_version_compatible: VersionCompatible = False,
    trt_float32: Float32 = False,
) -> None:
    """Export a training run as a bundle of three ONNX graphs, checked against torch.

    With --trt or --trt-rtx, build engines from them too. Research software, not a medical device.
    """
    if context.invoked_subcommand is not None:
        _refuse_options_before(context)
        return
    if ckpt is None or out is None:
        context.fail(f"Missing option '{'--ckpt' if ckpt is None else '--out'}'.")
    from medseg_export.engines.target import targets

    wanted = targets(
        trt=trt,
        trt_rtx=trt_rtx,
        sm=sm,
        samples=trt_samples,
        flags=Flags(
            version_compatible=trt_version_compatible,
            hardware=trt_hardware,
            workspace_mib=trt_workspace,
            optimization_level=trt_level,
        ),
    )
    bundle = _export(ckpt, out, steps, force=force, half=half or trt or trt_rtx, data=data)
    _build(bundle, wanted, float32=trt_float32)


@app.command()
def build(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder; the engines go into `engines/` in it.")],
    trt: Trt = False,
    trt_rtx: TrtRtx = False,
    sm: Sm = None,
    trt_samples: Samples = DEFAULT_SAMPLES,
    trt_workspace: Workspace = None,
    trt_level: Level = 3,
    trt_hardware: Compatible = "none",
    trt_version_compatible: VersionCompatible = False,
    trt_float32: Float32 = False,
) -> None:
    """Build engines from a bundle alone: no torch and no training run, so on a device too."""
    from medseg_export.engines.target import targets
    from medseg_runtime.errors import ParameterError
    from medseg_runtime.model.bundle import Bundle

    if not (trt or trt_rtx):
        raise ParameterError("there is nothing to build", "Give --trt, or --trt-rtx to build without a GPU.")
    wanted = targets(
        trt=trt,
        trt_rtx=trt_rtx,
        sm=sm,
        samples=trt_samples,
        flags=Flags(
            version_compatible=trt_version_compatible,
            hardware=trt_hardware,
            workspace_mib=trt_workspace,
            optimization_level=trt_level,
        ),
    )
    _build(Bundle.load(bundle), wanted, float32=trt_float32)


def _refuse_options_before(context: typer.Context) -> None:
    """An option before the name of a command would be that of an export, and have no effect."""
    given = [name for name in context.params if str(context.get_parameter_source(name)).endswith("COMMANDLINE")]
    if given:
        option = "--" + given[0].replace("_", "-")
        context.fail(f"{option} stands before `{context.invoked_subcommand}` and would have no effect; put it after")


def _export(ckpt: Path, out: Path, steps: int | None, *, force: bool, half: bool, data: Path | None) -> Bundle:
    """Write the bundle and print how well it agrees with torch."""
    import logging

    from rich.console import Console
    from rich.table import Table

    from medseg_export.bundle_writer import write_bundle
    from medseg_trainer.training.run_folder import RunFolder

    logging.getLogger("torch.onnx").setLevel(
        logging.ERROR
    )  # it warns of torchvision, which is not needed; torch resets this when imported
    with Console(stderr=True).status("exporting and checking against torch"):
        bundle, checks = write_bundle(RunFolder(ckpt), out, steps=steps, force=force, half=half, data=data)
    table = Table("parity: torch and ONNX Runtime", "largest difference", "tolerance")
    for check in checks:
        table.add_row(check.name, f"{check.error:.1e}", f"{check.tolerance:.0e}")
    console = Console()
    console.print(table)
    for precision, reason in bundle.manifest.parity.get("half", {}).get("refused", {}).items():
        console.print(f"{precision} was refused: {reason}", highlight=False)
    size = sum(len(graph) for graph in (*bundle.graphs.values(), *bundle.half.values())) / 1e6
    console.print(f"{out}: {bundle.manifest.name}, {size:.1f} MB, sha256 {bundle.sha256[:12]}", highlight=False)
    return bundle


def _build(bundle: Bundle, wanted: list[Target], *, float32: bool) -> None:
    """Build engines for each target and print what they are, and which of their layers are still in float32."""
    from rich.console import Console
    from rich.progress import Progress

    from medseg_export.engines.float32_layers import float32_report
    from medseg_export.engines.writer import build_engines

    console = Console(stderr=True)
    for target in wanted:
        with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
            out, record = build_engines(bundle, target, progress, float32=float32)
        size = sum(plan.bytes for plan in record.plans.values()) / 1e6
        profiles = " and ".join(map(str, record.profiles))
        typer.echo(
            f"{out}: {record.library} {record.version}, {record.precision}, samples {profiles}, {size:.1f} MB in "
            f"{len(record.plans)} plans"
        )
        for line in () if float32 else float32_report(target, bundle):
            typer.echo(f"in float32: {line}")


def main() -> None:
    """Run the command."""
    run_command(app, "medseg-export", extras="export,cpu")
