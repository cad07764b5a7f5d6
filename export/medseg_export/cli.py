"""medseg-export: a training run in, a bundle out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medseg_runtime.command import run_command

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def export(
    ckpt: Annotated[Path, typer.Option(help="Run folder of `medseg-train fit`.")],
    out: Annotated[Path, typer.Option(help="Bundle folder to write.")],
    steps: Annotated[int | None, typer.Option(help="Default number of sampling steps of the bundle.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the bundle if it exists.")] = False,
    trt: Annotated[bool, typer.Option("--trt", help="Also build TensorRT FP16 engines (not in this version).")] = False,
) -> None:
    """Export a training run as a bundle of three ONNX graphs, checked against torch.

    Research software, not a medical device.
    """
    import logging

    from rich.console import Console
    from rich.table import Table

    from medseg_export.bundle_writer import write_bundle
    from medseg_runtime.errors import ExportError
    from medseg_trainer.checkpoint import RunFolder

    logging.getLogger("torch.onnx").setLevel(
        logging.ERROR
    )  # it warns of torchvision, which is not needed; torch resets this when imported
    if trt:
        raise ExportError(
            "this version builds no TensorRT engines yet", "Leave out --trt: the bundle runs on ONNX Runtime."
        )
    with Console(stderr=True).status("exporting and checking against torch"):
        bundle, checks = write_bundle(RunFolder(ckpt), out, steps=steps, force=force)
    table = Table("parity: torch and ONNX Runtime", "largest difference", "tolerance")
    for check in checks:
        table.add_row(check.name, f"{check.error:.1e}", f"{check.tolerance:.0e}")
    console = Console()
    console.print(table)
    size = sum(len(graph) for graph in bundle.graphs.values()) / 1e6
    console.print(f"{out}: {bundle.manifest.name}, {size:.1f} MB, sha256 {bundle.sha256[:12]}", highlight=False)


def main() -> None:
    """Run the command."""
    run_command(app, "medseg-export", extras="export,cpu")
