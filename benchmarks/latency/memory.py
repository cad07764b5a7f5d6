"""Measure the peak memory of one call in a fresh process. Run as a module, this file is that process."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.latency.backends import BackendChoice
from benchmarks.latency.subject import Subject
from medseg_runtime.files.typed_json import typed

ROOT = Path(__file__).parents[2]
MIB = 2**20


@dataclass(frozen=True, kw_only=True, slots=True)
class Memory:
    """Resident memory of a process that loads a bundle and segments one image."""

    bundle: str
    backend: str
    """Name and precision."""
    samples: int
    loaded_mib: float
    """After loading the bundle."""
    peak_mib: float
    """Peak of the process."""


def peak_memory(subject: Subject, choice: BackendChoice, samples: int) -> Memory:
    """Measure in a fresh process."""
    task = json.dumps(
        {"subject": dataclasses.asdict(subject), "choice": dataclasses.asdict(choice), "samples": samples}
    )
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.latency.memory", task], cwd=ROOT, check=True, capture_output=True, text=True
    )
    found: Memory = typed(Memory, json.loads(done.stdout), "memory")
    return found


def _resident(field: str) -> float:
    """Return a field of /proc/self/status in MiB. `getrusage` does not do: its peak includes the parent before exec."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    (line,) = (line for line in lines if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024 / MIB


def _measure(task: str) -> Memory:
    content = json.loads(task)
    subject = typed(Subject, content["subject"], "subject")
    choice = typed(BackendChoice, content["choice"], "choice")
    segmenter = choice.open(subject.path, None)
    loaded = _resident("VmRSS")
    segmenter(subject.picture(), samples=content["samples"], seed=0)
    return Memory(
        bundle=subject.name, backend=str(choice), samples=content["samples"], loaded_mib=loaded, peak_mib=_resident("VmHWM")
    )  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(dataclasses.asdict(_measure(sys.argv[1]))))
