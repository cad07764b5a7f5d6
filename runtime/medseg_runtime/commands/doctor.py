"""medseg-doctor: what is installed here, what would be used, and what to type where something is broken."""

from __future__ import annotations

import platform
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import import_module, metadata

import typer

from medseg_runtime._version import __version__
from medseg_runtime.backends.auto.select import COMPARISON_UNFINISHED, known_choice
from medseg_runtime.backends.base import BackendClass
from medseg_runtime.backends.registry import BACKENDS, BackendSpec
from medseg_runtime.commands.program import run_command
from medseg_runtime.errors import BundleError
from medseg_runtime.files import cache
from medseg_runtime.machine.processor import processor
from medseg_runtime.model.bundle import Bundle

DISTRIBUTION = "medseglatdiff"
WITHOUT_METADATA = {
    "base": ["isal", "numpy", "pillow", "platformdirs", "pydicom", "typer"],
    "cpu": ["onnxruntime"],
    "gpu": ["onnxruntime-gpu"],
    "openvino": ["openvino"],
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
    """Look at the machine, the packages, the engines, the shipped model and what is kept of it."""
    diagnosis = Diagnosis()
    diagnosis.add(DISTRIBUTION, __version__)
    diagnosis.add("python", f"{platform.python_version()} ({platform.python_implementation()})")
    diagnosis.add("system", f"{platform.system()} {platform.release()} {platform.machine()}")
    diagnosis.add("processor", str(processor()))
    _packages(diagnosis)
    usable = _engines(diagnosis)
    bundle = _shipped_bundle(diagnosis)
    if bundle is not None and any(BACKENDS[name].device == "cpu" for name in usable):
        _auto(diagnosis, bundle)
    _cache(diagnosis)
    return diagnosis


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


def _engines(diagnosis: Diagnosis) -> list[str]:
    """Note each engine, and return the names of those that can be imported."""
    both = sorted(set(metadata.packages_distributions().get("onnxruntime", ())))
    if len(both) > 1:
        diagnosis.problems.append((f"{' and '.join(both)} share one folder, and one has overwritten the other", REPAIR))
    usable = []
    for name, engine in BACKENDS.items():
        try:
            backend: BackendClass = getattr(import_module(engine.module), engine.cls)
            diagnosis.add(
                "engine",
                f"{name} {backend.version}: {', '.join(backend.precisions()) or 'nothing here for it to run on'}",
            )
        except ImportError as error:
            diagnosis.add("engine", f"{name}: not installed (pip install '{DISTRIBUTION}[{engine.extra}]')")
            if _is_there(name, engine, both):
                diagnosis.problems.append((f"{name} is installed and cannot be imported: {error}", _repair(engine)))
        except AttributeError:  # what is left of onnxruntime after one of two was removed is an empty package
            diagnosis.add("engine", f"{name}: damaged")
            diagnosis.problems.append((f"{name} is only partly there", _repair(engine)))
        else:
            usable.append(name)
    if not usable and not diagnosis.problems:
        diagnosis.problems.append(("no inference engine is installed", tuple(_installs())))
    return usable


def _is_there(name: str, engine: BackendSpec, onnxruntimes: list[str]) -> bool:
    """Tell whether an engine of the CPU that cannot be imported was installed; one of a GPU may lack its driver."""
    return engine.device == "cpu" and bool(onnxruntimes if name == "onnxruntime" else _installed(name))


def _repair(engine: BackendSpec) -> tuple[str, ...]:
    return (
        REPAIR
        if engine.extra in ("cpu", "gpu")
        else (f"pip install --force-reinstall '{DISTRIBUTION}[{engine.extra}]'",)
    )


def _installs() -> Iterator[str]:
    for extra in dict.fromkeys(engine.extra for engine in BACKENDS.values() if engine.device == "cpu"):
        yield f"pip install '{DISTRIBUTION}[{extra}]'"


def _shipped_bundle(diagnosis: Diagnosis) -> Bundle | None:
    try:
        bundle = Bundle.load()
    except BundleError as error:
        diagnosis.add("shipped model", "missing or damaged")
        diagnosis.problems.append((error.problem, (f"pip install --force-reinstall --no-deps {DISTRIBUTION}",)))
        return None
    size = sum(len(graph) for graph in bundle.graphs.values())
    diagnosis.add(
        "shipped model", f"{bundle.manifest.name}, {size / 1e6:.1f} MB, intact (sha256 {bundle.sha256[:12]}...)"
    )
    return bundle


def _auto(diagnosis: Diagnosis, bundle: Bundle) -> None:
    """Say what `--backend auto` takes for the shipped model, without measuring anything."""
    choice = known_choice(bundle)
    if choice is None:
        diagnosis.add("auto", "compares the engines when it is first used, in some seconds")
        return
    diagnosis.add("auto", f"{choice.backend} in {choice.precision}: {choice.why}")
    if choice.why == COMPARISON_UNFINISHED:
        folder = shlex.quote(f"{cache.cache_folder()}/choice")
        diagnosis.problems.append(
            ("a comparison of the engines ended its process, or still runs", (f"rm -r {folder}",))
        )


def _cache(diagnosis: Diagnosis) -> None:
    files, writable = cache.stored(), cache.writable()
    if files and not writable:
        diagnosis.add(
            "cache",
            f"{cache.cache_folder()}, {len(files)} files, and no more can be written: what is not there is made anew",
        )
    elif writable:
        diagnosis.add("cache", f"{cache.cache_folder()}, {sum(files.values()) / 1e6:.1f} MB in {len(files)} files")
    else:
        diagnosis.add("cache", "no folder can be written: each start compiles anew, and auto takes the first engine")
