"""Measure the wall time of whole `medseg-infer` processes, and its parts.

Run as a module, this file is a process that times its own start.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.latency.timing import Timing, milliseconds_of

ROOT = Path(__file__).parents[2]
IMAGE = ROOT / "examples" / "nodule-phantom.png"
MEDSEG_INFER = Path(sys.executable).with_name("medseg-infer")


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """Parts of one start, in milliseconds. Medians, so they need not add up."""

    interpreter: float
    """From the call to our first line of Python."""
    libraries: float
    """Importing numpy and Pillow."""
    backend: float
    """Selecting, importing and loading it, compiled models included."""
    networks: float
    """Encode, denoise, decode."""
    own: float
    """Everything else: our modules, typer, reading, masks, pictures, files, exit."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Starts:
    """Starts of `medseg-infer` on the example image of 128 px, with the defaults."""

    first: Timing
    """With an empty cache folder: backends are compared and models compiled."""
    second: Timing
    parts: Parts
    """Of second starts."""
    backend: str
    """Backend that `auto` selected, and its precision."""


def environment(cache: Path) -> dict[str, str]:
    """Return this process's environment with another cache folder."""
    return os.environ | {"XDG_CACHE_HOME": str(cache)}


def measure_starts(count: int, work: Path) -> Starts:
    """Start the command `count` times with an empty cache and twice as often with a warm one."""
    first, second, parts = [], [], []
    for index in range(count):
        cache, out = work / f"cache-{index}", work / "out"
        command = [str(MEDSEG_INFER), str(IMAGE), "--out", str(out), "--force"]
        start = _process(command, cache)
        first.append(milliseconds_of(start))
        second += [milliseconds_of(start) for _ in range(2)]
        parts.append(_timed_parts(command, cache, out))
    taken = json.loads((out / "result.json").read_text(encoding="utf-8"))["engine"]
    return Starts(
        first=Timing.of(first),
        second=Timing.of(second),
        parts=_medians(parts),
        backend=f"{taken['name']} {taken['precision']}",
    )


def _process(command: list[str], cache: Path) -> Callable[[], object]:
    return lambda: subprocess.run(command, env=environment(cache), check=True, capture_output=True)


def _timed_parts(command: list[str], cache: Path, out: Path) -> Parts:
    """Start a process that times itself, and subtract its parts from the wall time."""
    clock = out.with_name("clock.json")
    called = time.monotonic()
    clocking = [sys.executable, "-m", "benchmarks.latency.starts", str(clock), str(called), *command[1:]]
    subprocess.run(clocking, env=environment(cache), cwd=ROOT, check=True, capture_output=True)
    whole = 1e3 * (time.monotonic() - called)
    parts = json.loads(clock.read_text(encoding="utf-8"))
    stages = json.loads((out / "result.json").read_text(encoding="utf-8"))["timings_ms"]
    parts["networks"] = sum(stages[stage] for stage in ("encode", "denoise", "decode"))
    return Parts(own=whole - sum(parts.values()), **parts)


def _medians(parts: list[Parts]) -> Parts:
    return Parts(
        **{field.name: median(getattr(one, field.name) for one in parts) for field in dataclasses.fields(Parts)}
    )


def _time_a_start(clock: Path, called: float, arguments: list[str]) -> None:
    """Run `medseg-infer` in this process, and write the time of each part to `clock`.

    called: when the process was started, on the system's monotonic clock, which all processes share.
    """
    spent = {"interpreter": 1e3 * (time.monotonic() - called)}

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            start = time.monotonic()
            try:
                return function(*args, **kwargs)
            finally:
                spent[name] = 1e3 * (time.monotonic() - start)
                clock.write_text(json.dumps(spent), encoding="utf-8")

        return run

    timed("libraries", _import_libraries)()
    from medseg_runtime.commands import infer
    from medseg_runtime.inference import segmenter

    patched: Any = segmenter
    patched.open_backend = timed("backend", patched.open_backend)
    sys.argv = ["medseg-infer", *arguments]
    infer.program()


def _import_libraries() -> None:
    import numpy as np
    from PIL import Image, ImageDraw

    del np, Image, ImageDraw


if __name__ == "__main__":
    _time_a_start(Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3:])
