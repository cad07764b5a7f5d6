"""Describe the machine of a run, and measure how busy other processes keep it."""

from __future__ import annotations

import os
import platform
import re
import resource
import subprocess
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Self

from benchmarks.common.tables import count_of

CPU_FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
BF16_FEATURES = frozenset({"avx512_bf16", "amx_bf16"})
PACKAGES = ("medseglatdiff", "numpy", "onnxruntime", "openvino", "torch", "diffusers", "monai", "pytest-benchmark")
CPUINFO, STAT = Path("/proc/cpuinfo"), Path("/proc/stat")
ROOT = Path(__file__).parents[2]
IDLE_SECONDS = 3.0
BUSY_SHARE = 0.1
"""Largest share of processor time that other processes may take. Above it, a latency run is refused, or its page carries a warning."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """Hardware, software and load of the machine at the start of a run."""

    processor: str
    features: tuple[str, ...]
    """Of `CPU_FEATURES`."""
    cores: int
    """That this process may use."""
    memory_gib: float
    system: str
    python: str
    versions: dict[str, str]
    """Package => version, or `absent`."""
    commit: str
    """Ends in `-dirty` if the working tree had changes."""
    load_average: tuple[float, float, float]
    taken_by_others: float
    """Share of all processor time that other processes took before the run, in [0, 1]."""

    @property
    def has_bf16(self) -> bool:
        """Whether the processor multiplies in bfloat16."""
        return has_bf16(self.features)

    def __str__(self) -> str:
        features = ", ".join(self.features) or "not even AVX2"
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items() if version != "absent")
        return (
            f"{self.processor}, {count_of(self.cores, 'core')}, {features}, {self.memory_gib} GiB; {self.system}; "
            f"Python {self.python}; {versions}; commit {self.commit}"
        )


def cpu_features() -> tuple[str, ...]:
    """Return the processor's instruction sets, of `CPU_FEATURES`."""
    flags = re.search(r"^flags\s*:\s*(.+)$", CPUINFO.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
    known = set(flags[1].split()) if flags else set()
    return tuple(feature for feature in CPU_FEATURES if feature in known)


def has_bf16(features: tuple[str, ...]) -> bool:
    """Return whether a processor with these features multiplies in bfloat16."""
    return not BF16_FEATURES.isdisjoint(features)


def inspect_machine(idle_seconds: float = IDLE_SECONDS) -> Machine:
    """Describe this machine.

    idle_seconds: how long to sleep while the load of other processes is measured.
    """
    info = CPUINFO.read_text(encoding="utf-8", errors="replace")
    name = re.search(r"^model name\s*:\s*(.+)$", info, re.MULTILINE)
    with OtherLoad() as others:
        time.sleep(idle_seconds)
    return Machine(
        processor=name[1] if name else platform.processor() or "unknown",
        features=cpu_features(),
        cores=len(os.sched_getaffinity(0)),
        memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        versions={package: installed(package) for package in PACKAGES},
        commit=_commit(),
        load_average=os.getloadavg(),
        taken_by_others=others.share,
    )


def installed(package: str) -> str:
    """Return the version of a package, or `absent`."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"


def _commit() -> str:
    git = ("git", "-C", str(ROOT))
    found = subprocess.run([*git, "describe", "--always", "--dirty", "--abbrev=12"], capture_output=True, text=True, check=False)  # fmt: skip
    return found.stdout.strip() or "unknown"


class OtherLoad:
    """Measure the share of processor time that other processes take inside a `with` block.

    The load average does not do: it includes this process, and the last minute. Child processes count as ours once they have ended.
    """

    share: float = 0.0

    def __enter__(self) -> Self:
        self._busy, self._all, self._ours = *_machine_seconds(), _our_seconds()
        return self

    def __exit__(self, *_: object) -> None:
        busy, everything = _machine_seconds()
        theirs = (busy - self._busy) - (_our_seconds() - self._ours)
        self.share = max(0.0, theirs / max(everything - self._all, 1e-9))


def _machine_seconds() -> tuple[float, float]:
    """Return busy and total processor seconds of all cores since boot; steal time counts as busy."""
    user, nice, system, idle, iowait, irq, softirq, steal = (int(v) for v in STAT.read_text().split("\n", 1)[0].split()[1:9])  # fmt: skip
    busy = user + nice + system + irq + softirq + steal
    hertz = os.sysconf("SC_CLK_TCK")
    return busy / hertz, (busy + idle + iowait) / hertz


def _our_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)
