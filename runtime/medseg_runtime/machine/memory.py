"""Refuse work that would exceed free memory: Linux would kill the process in the middle of an image."""

from __future__ import annotations

import re
from pathlib import Path

from medseg_runtime.errors import ParameterError

CGROUP = Path("/sys/fs/cgroup")
"""Where a container reads its own limits (cgroup version 2)."""
MAX_MASK_BYTES = 4 << 30
WORKING_BYTES = 96
"""Peak memory per pixel and class besides the masks, from the image to the rendered overlay."""


def check_memory(masks: int, mask_bytes: int, *, at_once: int = 1) -> None:
    """Refuse masks that do not fit into memory, before anything is computed.

    masks: number of masks kept, 0 for none. mask_bytes: size of one mask with all its classes. at_once: images that share the memory.

    Raises:
        ParameterError: too many masks, or the image is too large.
    """
    if masks * mask_bytes > MAX_MASK_BYTES:
        raise ParameterError(
            f"{masks} masks of this image need {masks * mask_bytes / 2**30:.1f} GiB",
            f"Use at most {MAX_MASK_BYTES // mask_bytes} samples.",
        )
    free = available_bytes()
    if free is not None and (masks + WORKING_BYTES) * mask_bytes > free // at_once:
        fit = min(free // at_once // mask_bytes - WORKING_BYTES, masks)
        what = f"{masks} masks of this image" if masks else "the maps of this image"
        shared = f" for {at_once} images at once" if at_once > 1 else ""
        raise ParameterError(
            f"{what} need {(masks + WORKING_BYTES) * mask_bytes / 2**30:.1f} GiB of memory, "
            f"and {free / 2**30:.1f} GiB are free{shared}",
            f"Use at most {fit} samples, or a crop of the image." if fit > 0 else "Give a crop of the image.",
        )


def available_bytes(meminfo: Path = Path("/proc/meminfo"), cgroup: Path = CGROUP) -> int | None:
    """Return the free memory of the machine or container, whichever is less; None if neither states it.

    A container counts cached files as used. The inactive ones can be reclaimed, and count as free here.
    """
    known = []
    if found := re.search(r"^MemAvailable:\s*(\d+) kB$", _text(meminfo), re.MULTILINE):
        known.append(1024 * int(found[1]))
    limit, used = _text(cgroup / "memory.max").strip(), _text(cgroup / "memory.current").strip()
    if limit.isdigit() and used.isdigit():
        kept = re.search(r"^inactive_file (\d+)$", _text(cgroup / "memory.stat"), re.MULTILINE)
        known.append(max(int(limit) - int(used) + (int(kept[1]) if kept else 0), 0))
    return min(known, default=None)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
