"""Which model, backend and versions made a result."""

from __future__ import annotations

import platform
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
import PIL

from medseg_runtime._version import __version__
from medseg_runtime.model.bundle import Precision


def package_versions() -> dict[str, str]:
    """Return the versions of what reads, prepares and aggregates: name -> version."""
    return {
        "medseglatdiff": __version__,
        "numpy": np.__version__,
        "pillow": PIL.__version__,
        "python": platform.python_version(),
    }


@dataclass(frozen=True, kw_only=True, slots=True)
class BackendRecord:
    """What ran the networks."""

    name: str
    version: str
    precision: Precision
    """What the networks multiplied in. Below float32, the edge of a mask may move by a pixel here and there."""
    why: str
    """One clause: why this backend in this precision."""
    compiled: dict[str, str] = field(default_factory=dict)
    """What ran where that is not the bundle's graphs, but compiled from them: plan or compiled model -> SHA-256."""

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Provenance:
    """What the masks depend on besides the image and the request."""

    bundle: str
    """Name of the bundle."""
    bundle_sha256: str
    """Of bundle.json, and so of every graph; empty for networks that are not from a bundle."""
    task: str
    """One sentence: what is segmented in what."""
    needs_point: bool
    """The model outlines what someone points at; it does not search."""
    backend: BackendRecord
    packages: dict[str, str] = field(default_factory=package_versions)
    """Name -> version of this distribution, Python, NumPy and Pillow."""

    @property
    def versions(self) -> dict[str, str]:
        """The packages' versions and the backend's."""
        return {**self.packages, self.backend.name: self.backend.version}


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One image's way through a program: identifies it in result.json and in the audit file."""

    id: str = field(default_factory=lambda: secrets.token_hex(16))
    time_utc: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="milliseconds"))
