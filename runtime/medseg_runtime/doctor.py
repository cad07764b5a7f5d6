"""medseg-doctor: what is installed here, what would be used, and what to type where something is broken."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import import_module, metadata
from pathlib import Path

import typer

from medseg_runtime import __version__
from medseg_runtime.backends import BACKENDS
from medseg_runtime.bundle import Bundle
from medseg_runtime.command import run_command
from medseg_runtime.errors import BundleError

DISTRIBUTION = "medseglatdiff"
CPU_FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16")
WITHOUT_METADATA = {
    "base": ["numpy", "pillow", "pydicom", "typer"],
    "cpu": ["onnxruntime"],
    "gpu": ["onnxruntime-gpu"],
}
"""What to look for where the package runs from a source tree without being installed."""
REPAIR = (
    "pip uninstall --yes onnxruntime onnxruntime-gpu",
    f"pip install --force-reinstall '{DISTRIBUTION}[cpu]'   # or [gpu]",
)


@dataclass(slots=True)
class Diagnosis:
    """Lines to print, and what is broken: a problem and the commands that mend it."""

    lines: list[str] = field(default_factory=list)
    problems: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)

    def add(self, name: str, value: str) -> None:
        """Note one fact."""
        self.lines.append(f"{name:<15}{value}")


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def main() -> None:
    """Run the command."""
    run_command(app, "medseg-doctor", extras="cpu")


@app.command()
def doctor() -> None:
    """Show what is installed, which engine would run, and what is broken; exit 1 if something is."""
    diagnosis = diagnose()
    for line in diagnosis.lines:
        typer.echo(line)
    for problem, commands in diagnosis.problems:
        typer.echo(f"\nproblem: {problem}")
        for command in commands:
            typer.echo(f"    {command}")
    if diagnosis.problems:
        raise typer.Exit(1)
    typer.echo("\nNothing is broken.")


def diagnose() -> Diagnosis:
    """Look at the machine, the packages, the engines and the shipped model."""
    diagnosis = Diagnosis()
    diagnosis.add(DISTRIBUTION, __version__)
    diagnosis.add("python", f"{platform.python_version()} ({platform.python_implementation()})")
    diagnosis.add("system", f"{platform.system()} {platform.release()} {platform.machine()}")
    diagnosis.add("processor", processor())
    _packages(diagnosis)
    _engines(diagnosis)
    _shipped_bundle(diagnosis)
    return diagnosis


def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return the processor's name, the cores that we may use, and the instruction sets that matter to the engines."""
    text = cpuinfo.read_text(encoding="utf-8", errors="replace") if cpuinfo.exists() else ""
    name = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    flags = re.search(r"^flags\s*:\s*(.+)$", text, re.MULTILINE)
    known = set(flags[1].split()) if flags else set()
    features = [feature for feature in CPU_FEATURES if feature in known] or ["none of " + ", ".join(CPU_FEATURES)]
    cores = len(os.sched_getaffinity(0))
    return f"{name[1] if name else platform.processor() or 'unknown'}; {cores} cores; {', '.join(features)}"


def _packages(diagnosis: Diagnosis) -> None:
    for extra, names in requirements().items():
        diagnosis.add(extra, ", ".join(f"{name} {_installed(name) or '-'}" for name in names))


def requirements() -> dict[str, list[str]]:
    """Return the names of the packages of the base install and of each extra, from our own metadata."""
    try:
        lines = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return WITHOUT_METADATA
    found: dict[str, list[str]] = {}
    for line in lines:
        name, extra = re.match(r"[\w.-]+", line), re.search(r"extra\s*==\s*['\"]([\w-]+)['\"]", line)
        if name and name[0] != DISTRIBUTION:
            found.setdefault(extra[1] if extra else "base", []).append(name[0])
    return found


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _engines(diagnosis: Diagnosis) -> None:
    both = sorted(set(metadata.packages_distributions().get("onnxruntime", ())))
    if len(both) > 1:
        diagnosis.problems.append((f"{' and '.join(both)} share one folder, and one has overwritten the other", REPAIR))
    usable = []
    for name, (module, cls, extra) in BACKENDS.items():
        try:
            backend = getattr(import_module(module), cls)
        except ImportError as error:
            diagnosis.add("engine", f"{name}: not installed (pip install '{DISTRIBUTION}[{extra}]')")
            if both and name == "onnxruntime":
                diagnosis.problems.append((f"{name} is installed and cannot be imported: {error}", REPAIR))
        except AttributeError:  # what is left of onnxruntime after one of two was removed is an empty package
            diagnosis.add("engine", f"{name}: damaged")
            diagnosis.problems.append((f"{name} is only partly there", REPAIR))
        else:
            usable.append(name)
            diagnosis.add("engine", f"{name} {backend.version}{', taken by auto' if usable == [name] else ''}")
    if not usable and not diagnosis.problems:
        diagnosis.problems.append(("no inference engine is installed", tuple(_installs())))


def _installs() -> Iterator[str]:
    for extra in dict.fromkeys(extra for _, _, extra in BACKENDS.values()):
        yield f"pip install '{DISTRIBUTION}[{extra}]'"


def _shipped_bundle(diagnosis: Diagnosis) -> None:
    try:
        bundle = Bundle.load()
    except BundleError as error:
        diagnosis.add("shipped model", "missing or damaged")
        diagnosis.problems.append((error.problem, (f"pip install --force-reinstall --no-deps {DISTRIBUTION}",)))
        return
    size = sum(len(graph) for graph in bundle.graphs.values())
    diagnosis.add(
        "shipped model", f"{bundle.manifest.name}, {size / 1e6:.1f} MB, intact (sha256 {bundle.sha256[:12]}...)"
    )
