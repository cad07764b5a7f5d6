"""medseg-doctor: show what is installed, which backend would run, and how to repair what is broken."""

from __future__ import annotations

import platform
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import import_module, metadata
from pathlib import Path
from typing import Annotated

import typer

from medseg_runtime._version import __version__
from medseg_runtime.backends.auto.select import COMPARISON_UNFINISHED, known_choice
from medseg_runtime.backends.base import BackendClass
from medseg_runtime.backends.registry import BACKENDS, BackendSpec
from medseg_runtime.commands.audit_check import check_audit
from medseg_runtime.commands.program import run_command, say
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
"""Requirements to look for when the package is not installed, as in a source tree."""
REPAIR = (
    "pip uninstall --yes onnxruntime onnxruntime-gpu",
    f"pip install --force-reinstall '{DISTRIBUTION}[cpu]'   # or [gpu]",
)


@dataclass(slots=True)
class Diagnosis:
    """Lines to print, and problems with the commands that repair them."""

    lines: list[str] = field(default_factory=list)
    problems: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)

    def add(self, name: str, value: str) -> None:
        """Add one line."""
        self.lines.append(f"{name:<15}{value}")


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def main() -> None:
    """Run the command."""
    run_command(app, "medseg-doctor", extras="cpu")


@app.command()
def doctor(
    audit: Annotated[
        Path | None,
        typer.Option(help="Check this audit file of medseg-infer instead: is any line changed, missing or unfinished?"),
    ] = None,
) -> None:
    """Show what is installed, which backend would run, and what is broken. Exit 1 if something is."""
    diagnosis = diagnose() if audit is None else diagnose_audit(audit)
    for line in diagnosis.lines:
        say(line)
    for problem, commands in diagnosis.problems:
        typer.echo()
        say(f"problem: {problem}")
        for command in commands:
            say(f"    {command}")
    if diagnosis.problems:
        raise typer.Exit(1)
    typer.echo("\nNothing is broken.")


def diagnose() -> Diagnosis:
    """Check the machine, the packages, the backends, the shipped model and the cache."""
    diagnosis = Diagnosis()
    diagnosis.add(DISTRIBUTION, __version__)
    diagnosis.add("python", f"{platform.python_version()} ({platform.python_implementation()})")
    diagnosis.add("system", f"{platform.system()} {platform.release()} {platform.machine()}")
    diagnosis.add("processor", str(processor()))
    _packages(diagnosis)
    usable = _backends(diagnosis)
    bundle = _shipped_bundle(diagnosis)
    if bundle is not None and any(BACKENDS[name].device == "cpu" for name in usable):
        _auto(diagnosis, bundle)
    _cache(diagnosis)
    return diagnosis


def diagnose_audit(path: Path) -> Diagnosis:
    """Check an audit file.

    Raises:
        OutputError: it cannot be read.
    """
    check, diagnosis = check_audit(path), Diagnosis()
    diagnosis.add("lines", f"{check.lines}, of which {check.unchained} are of a version that chained none")
    diagnosis.add("last line", f"sha256 {check.last_sha256}: keep it elsewhere to see whether lines are removed later")
    if check.broken:
        broken = ", ".join(map(str, check.broken[:10]))
        diagnosis.problems.append((f"lines do not continue the line before: {broken}", ("compare with a backup",)))
    if check.unfinished:
        runs = ", ".join(check.unfinished[:10])
        what = f"runs ended before they could write how, and may have left a result: {runs}"
        diagnosis.problems.append((what, ("grep -l RUN results/*/result.json",)))
    return diagnosis


def _packages(diagnosis: Diagnosis) -> None:
    for extra, names in requirements().items():
        diagnosis.add(extra, ", ".join(f"{name} {_installed(name) or '-'}" for name in names))


def requirements() -> dict[str, list[str]]:
    """Return the packages of the base install and of each extra, from the metadata."""
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


def _backends(diagnosis: Diagnosis) -> list[str]:
    """Add a line for each backend, and return those that can be imported."""
    both = sorted(set(metadata.packages_distributions().get("onnxruntime", ())))
    if len(both) > 1:
        diagnosis.problems.append((f"{' and '.join(both)} share one folder, and one has overwritten the other", REPAIR))
    usable = []
    for name, spec in BACKENDS.items():
        try:
            loaded: BackendClass = getattr(import_module(spec.module), spec.cls)
            diagnosis.add(
                "backend",
                f"{name} {loaded.version}: {', '.join(loaded.precisions()) or 'no device for it here'}",
            )
        except ImportError as error:
            diagnosis.add("backend", f"{name}: not installed (pip install '{DISTRIBUTION}[{spec.extra}]')")
            if _should_import(name, spec, both):
                diagnosis.problems.append((f"{name} is installed and cannot be imported: {error}", _repair(spec)))
        except AttributeError:  # after one of two ONNX Runtimes was removed, the package is an empty folder
            diagnosis.add("backend", f"{name}: damaged")
            diagnosis.problems.append((f"{name} is only partly installed", _repair(spec)))
        else:
            usable.append(name)
    if not usable and not diagnosis.problems:
        diagnosis.problems.append(("no backend is installed", tuple(_installs())))
    return usable


def _should_import(name: str, spec: BackendSpec, onnxruntimes: list[str]) -> bool:
    """Tell whether a CPU backend is installed although it cannot be imported. A GPU backend may only lack its driver."""
    return spec.device == "cpu" and bool(onnxruntimes if name == "onnxruntime" else _installed(name))


def _repair(spec: BackendSpec) -> tuple[str, ...]:
    return (
        REPAIR if spec.extra in ("cpu", "gpu") else (f"pip install --force-reinstall '{DISTRIBUTION}[{spec.extra}]'",)
    )


def _installs() -> Iterator[str]:
    for extra in dict.fromkeys(spec.extra for spec in BACKENDS.values() if spec.device == "cpu"):
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
    """Show what `--backend auto` uses for the shipped model, without measuring."""
    choice = known_choice(bundle)
    if choice is None:
        diagnosis.add("auto", "compares the backends on first use, which takes some seconds")
        return
    diagnosis.add("auto", f"{choice.backend} in {choice.precision}: {choice.why}")
    if choice.why == COMPARISON_UNFINISHED:
        folder = shlex.quote(f"{cache.cache_folder()}/choice")
        diagnosis.problems.append(("a comparison of the backends crashed, or is still running", (f"rm -r {folder}",)))


def _cache(diagnosis: Diagnosis) -> None:
    if problem := cache.problem():
        folder = shlex.quote(str(cache.cache_folder()))
        diagnosis.add("cache", f"{cache.cache_folder()}, not used")
        diagnosis.problems.append(
            (
                f"the cache folder {problem}, so it is not used, and each start compiles anew",
                (f"rm -r {folder} {folder}.key   # or set XDG_CACHE_HOME to a folder of your own",),
            )
        )
        return
    files, writable = cache.stored(), cache.writable()
    if files and not writable:
        diagnosis.add(
            "cache",
            f"{cache.cache_folder()}, {len(files)} files, read-only: what is missing is compiled at each start",
        )
    elif writable:
        diagnosis.add("cache", f"{cache.cache_folder()}, {sum(files.values()) / 1e6:.1f} MB in {len(files)} files")
    else:
        diagnosis.add("cache", "no writable folder: each start compiles anew, and auto uses the first backend")
