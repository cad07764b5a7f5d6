"""CPU model and instruction sets, which decide the fastest backend."""

from __future__ import annotations

import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path

FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16")
"""Instruction sets that the backends use, by the names of Linux."""


@dataclass(frozen=True, slots=True)
class Processor:
    """The CPU, as Linux describes it."""

    name: str
    cores: int
    """Cores that this process may use."""
    features: tuple[str, ...]
    """Those of `FEATURES` that it has."""

    def __str__(self) -> str:
        features = self.features or ("none of " + ", ".join(FEATURES),)
        return f"{self.name}; {self.cores} cores; {', '.join(features)}"


def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> Processor:
    """Read the CPU's name and features."""
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    name = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    flags = re.search(r"^flags\s*:\s*(.+)$", text, re.MULTILINE)
    known = set(flags[1].split()) if flags else set()
    return Processor(
        name=name[1] if name else platform.processor() or "unknown",
        cores=len(os.sched_getaffinity(0)),
        features=tuple(feature for feature in FEATURES if feature in known),
    )
