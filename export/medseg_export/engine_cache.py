"""Plans and kernel timings of earlier builds, in the user's cache folder: building again what has not changed takes no time.

    <key>-<sha256 of the plan>.plan     the key is a hash of everything that the plan follows from
    <library>-<version>-<GPU>.timing    what TensorRT keeps to search faster

A cache that cannot be read or written is as good as an empty one: it is never a reason not to build.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from medseg_export.to_tensorrt import Target

KEPT_PLANS = 32
"""The oldest of more than these are removed: about a gigabyte of the largest models that we know."""


@dataclass(frozen=True, slots=True)
class EngineCache:
    """One folder."""

    folder: Path

    @classmethod
    def of_user(cls) -> EngineCache:
        """Return the one that all builds of this user share."""
        from platformdirs import user_cache_path

        return cls(user_cache_path("medseglatdiff") / "tensorrt")

    def plan(self, key: str) -> bytes | None:
        """Return the plan of a key, if there is one and it is whole."""
        for path in self.folder.glob(f"{key}-*.plan"):
            content = _read(path)
            if path.name == _plan_name(key, content):
                return content
        return None

    def keep_plan(self, key: str, plan: bytes) -> None:
        """Keep a plan, and of all of them the latest."""
        self._write(_plan_name(key, plan), plan)
        for path in sorted(self.folder.glob("*.plan"), key=_modified, reverse=True)[KEPT_PLANS:]:
            path.unlink(missing_ok=True)

    def timing(self, target: Target) -> bytes:
        """Return the timings of this library on this GPU; nothing if there are none."""
        return _read(self.folder / _timing_name(target))

    def keep_timing(self, target: Target, content: bytes) -> None:
        """Keep the timings."""
        if content:
            self._write(_timing_name(target), content)

    def _write(self, name: str, content: bytes) -> None:
        """Write a file whole or not at all: two builds may run at once."""
        partial = self.folder / f".{secrets.token_hex(8)}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(content)
            partial.replace(self.folder / name)
        except OSError:
            partial.unlink(missing_ok=True)


def plan_key(target: Target, source_sha256: str) -> str:
    """Return a hash of all that a plan follows from: graph, library, GPU, profiles, flags."""
    facts = {
        "graph": source_sha256,
        "library": [target.library, target.version],
        "gpu": None if target.gpu is None else target.gpu.name,
        "compute capabilities": target.compute_capabilities,
        "profiles": [dataclasses.asdict(profile) for profile in target.profiles],
        "flags": dataclasses.asdict(target.flags),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _plan_name(key: str, plan: bytes) -> str:
    return f"{key}-{hashlib.sha256(plan).hexdigest()}.plan"


def _timing_name(target: Target) -> str:
    gpu = "none" if target.gpu is None else re.sub(r"\W+", "-", target.gpu.name)
    return f"{target.library}-{target.version}-{gpu}.timing"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # another build has just removed it
        return 0.0
