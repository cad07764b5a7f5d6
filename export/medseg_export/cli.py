"""medseg-export: turn a training run into a bundle, and build TensorRT engines from a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medseg_export.engines.options import EngineOptions, with_engine_options
from medseg_runtime.commands.program import run_command, say

if TYPE_CHECKING:
    from medseg_export.engines.to_tensorrt import Target
    from medseg_runtime.model.bundle import Bundle

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, invoke_without_command=True)

HELP = """\b
Export a training run; writes runs/mine-bundle:
    medseg-export --ckpt runs/mine
Export it and build TensorRT engines for the GPU in this machine:
    medseg-export --ckpt runs/mine --trt
Build engines from a bundle, on the device that will run them:
    medseg-export build runs/mine-bundle --trt

A bundle is a folder with three ONNX graphs, checked against torch. Research software, not a medical device.
"""
BUILD_HELP = """\b
Build TensorRT engines for the GPU in this machine:
    medseg-export build runs/mine-bundle --trt
Build them ahead of time for RTX GPUs, on any machine:
    medseg-export build runs/mine-bundle --trt-rtx --sm 86,89,120

Needs the bundle alone: no torch and no training run. The engines go into `engines/` in the bundle.
"""
SIGN_HELP = """\b
Make a key pair once; the private key need not stay on this machine:
    openssl genpkey -algorithm ed25519 -out key.pem
    openssl pkey -in key.pem -pubout -out key.pub.pem
Sign a bundle after its engines are built; medseg-infer --require-signature key.pub.pem takes no other:
    medseg-export sign runs/mine-bundle --key key.pem
"""


@app.callback(help=HELP)
@with_engine_options
def export(
    context: typer.Context,
    *,
    ckpt: Annotated[Path | None, typer.Option(help="Run folder of `medseg-train fit`. Required.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Bundle folder to write. Default: beside the run, runs/mine-bundle for runs/mine."),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Default sampling steps of the bundle. Default: the run's.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the bundle if it exists.")] = False,
    half: Annotated[
        bool, typer.Option("--half", help="Also write float16 graphs for GPUs. --trt and --trt-rtx imply it.")
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option(help="Data set; the float16 masks are checked on its val images. Default: one synthetic image."),
    ] = None,
    engines: EngineOptions,
) -> None:
    """Export a training run as a bundle; with --trt or --trt-rtx, also build engines."""
    if context.invoked_subcommand is not None:
        _refuse_options_before(context)
        return
    if ckpt is None:
        context.fail("Missing option '--ckpt'.")
    targets = engines.targets()
    out = default_bundle_folder(ckpt) if out is None else out
    bundle = _export(ckpt, out, steps, force=force, half=half or engines.any, data=data)
    _build(bundle, targets, float32=engines.trt_float32)


@app.command(help=BUILD_HELP, short_help="Build TensorRT engines from a bundle.")
@with_engine_options
def build(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder.", metavar="BUNDLE")],
    *,
    engines: EngineOptions,
) -> None:
    """Build engines from a bundle."""
    from medseg_runtime.errors import ParameterError
    from medseg_runtime.model.bundle import Bundle

    if not engines.any:
        raise ParameterError("there is nothing to build", "Give --trt, or --trt-rtx to build without a GPU.")
    targets = engines.targets()
    _build(Bundle.load(bundle), targets, float32=engines.trt_float32)


@app.command(help=SIGN_HELP, short_help="Sign a bundle.")
def sign(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder.", metavar="BUNDLE")],
    *,
    key: Annotated[Path, typer.Option(help="Private Ed25519 key, a PEM file without a password.", metavar="KEY")],
    trust_graphs: Annotated[
        bool, typer.Option("--trust-graphs", help="Sign a bundle whose graphs medseg-export could not have written.")
    ] = False,
) -> None:
    """Sign a bundle and the engines in it."""
    from medseg_export.signing import sign_bundle

    for signature in sign_bundle(bundle, key, trust_graphs=trust_graphs):
        say(f"{signature}: written")


def default_bundle_folder(run: Path) -> Path:
    """Return the folder beside a run that its bundle goes into: runs/mine => runs/mine-bundle."""
    if run.name in ("", ".."):  # `.`, `..` and the like have no name of their own
        run = run.resolve()
    return run.parent / f"{run.name}-bundle"


def _refuse_options_before(context: typer.Context) -> None:
    """Refuse options before a subcommand: they belong to the export and would have no effect."""
    given = [name for name in context.params if str(context.get_parameter_source(name)).endswith("COMMANDLINE")]
    if given:
        option = "--" + given[0].replace("_", "-")
        context.fail(f"{option} stands before `{context.invoked_subcommand}` and would have no effect; put it after")


def _export(ckpt: Path, out: Path, steps: int | None, *, force: bool, half: bool, data: Path | None) -> Bundle:
    """Write the bundle, and print how well it agrees with torch and where it is."""
    import logging

    from rich.console import Console
    from rich.table import Table

    from medseg_export.bundle_writer import write_bundle
    from medseg_trainer.training.run_folder import RunFolder

    # The exporter warns that torchvision is missing, which is not needed. Importing torch resets the level, so set it here.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with Console(stderr=True).status("exporting and checking against torch"):
        bundle, comparisons = write_bundle(RunFolder(ckpt), out, steps=steps, force=force, half=half, data=data)
    table = Table("parity: torch and ONNX Runtime", "largest difference", "tolerance")
    for comparison in comparisons:
        table.add_row(comparison.name, f"{comparison.error:.1e}", f"{comparison.tolerance:.0e}")
    Console().print(table)
    for precision, reason in bundle.manifest.parity.get("half", {}).get("refused", {}).items():
        say(f"{precision} was refused: {reason}")
    size = sum(len(graph) for graph in (*bundle.graphs.values(), *bundle.half.values())) / 1e6
    say(f"{out}: {bundle.manifest.name}, {size:.1f} MB, sha256 {bundle.sha256[:12]}")
    return bundle


def _build(bundle: Bundle, targets: list[Target], *, float32: bool) -> None:
    """Build engines for each target; print what was written and which layers compute in float32."""
    from rich.console import Console
    from rich.progress import Progress

    from medseg_export.engines.float32_layers import float32_report
    from medseg_export.engines.writer import build_engines

    console = Console(stderr=True)
    for target in targets:
        with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
            out, record = build_engines(bundle, target, progress, float32=float32)
        size = sum(plan.bytes for plan in record.plans.values()) / 1e6
        profiles = " and ".join(map(str, record.profiles))
        say(
            f"{out}: {record.library} {record.version}, {record.precision}, samples {profiles}, {size:.1f} MB in "
            f"{len(record.plans)} plans"
        )
        for line in () if float32 else float32_report(target, bundle):
            say(f"in float32: {line}")


def main() -> None:
    """Run the command."""
    run_command(app, "medseg-export", extras="export,cpu")
