"""Refuse work that would exceed free memory: Linux would kill the process in the middle of an image.

Free is what the machine has, and what every limit of this process leaves: its control groups, of version 1 or 2, with all their
parents, and its own address space.
"""

from __future__ import annotations

import os
import re
import resource
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from medseg_runtime.errors import ImageError, ParameterError

PROC = Path("/proc")
CGROUP = Path("/sys/fs/cgroup")
CGROUP_FILES = (
    ("0", "", "memory.max", "memory.current", "inactive_file"),  # version 2
    ("0", "unified", "memory.max", "memory.current", "inactive_file"),  # version 2 beside version 1
    ("memory", "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),  # version 1
)
"""Hierarchy in /proc/self/cgroup, where it is mounted, and its files: the limit, what is used, and what of that can be reclaimed."""
MAX_MASK_BYTES = 4 << 30
WORKING_BYTES = 96
"""Peak memory per pixel and class besides the masks, from the image to the rendered overlay."""
DECODING_BYTES = 40
"""Peak memory per pixel while a file is decoded. Measured: 27 for a PNG with alpha, 13 for RGB, 36 for padded MONOCHROME1."""


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


class _Promises:
    """Memory that decoders of this process will take. Those that do not fit beside the others wait for them."""

    def __init__(self) -> None:
        self._forget()
        os.register_at_fork(after_in_child=self._forget)  # the threads that decode stay in the parent

    def _forget(self) -> None:
        self._changed = threading.Condition()
        self._decoding = self._promised = 0

    def make(self, needed: int) -> None:
        """Wait until this many bytes are free beside those promised to others.

        Raises:
            ImageError: they are not, although nobody else decodes.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._decoding or self._fits(self._promised + needed))
            if not self._decoding and not self._fits(needed):
                raise ImageError(
                    f"decoding this image needs {needed / 2**30:.1f} GiB of memory, and "
                    f"{(available_bytes() or 0) / 2**30:.1f} GiB are free",
                    "Give a crop of the image.",
                )
            self._decoding += 1
            self._promised += needed

    def release(self, needed: int) -> None:
        with self._changed:
            self._decoding -= 1
            self._promised -= needed
            self._changed.notify_all()

    @staticmethod
    def _fits(needed: int) -> bool:
        free = available_bytes()
        return free is None or needed <= free


_PROMISES = _Promises()


@contextmanager
def memory_to_decode() -> Iterator[Callable[[int, int], None]]:
    """Give a function (width, height) to call once, before an image of that size is decoded in the block.

    It refuses an image that does not fit into free memory, and waits while other threads decode what does not fit beside it.

    Raises:
        ImageError: from the function: the image does not fit.
    """
    promised: list[int] = []

    def promise(width: int, height: int) -> None:
        needed = DECODING_BYTES * width * height
        _PROMISES.make(needed)
        promised.append(needed)

    try:
        yield promise
    finally:
        for needed in promised:
            _PROMISES.release(needed)


def available_bytes(proc: Path = PROC, cgroup: Path = CGROUP) -> int | None:
    """Return the memory that this process may still take; None if the system does not say.

    A control group counts cached files as used. The inactive ones can be reclaimed, and count as free here.
    """
    known = [*_left_in_cgroups(proc, cgroup), *_left_of_address_space(proc)]
    if found := re.search(r"^MemAvailable:\s*(\d+) kB$", _text(proc / "meminfo"), re.MULTILINE):
        known.append(1024 * int(found[1]))
    return min(known, default=None)


def _left_in_cgroups(proc: Path, cgroup: Path) -> Iterator[int]:
    """Yield what each control group of this process leaves: its own and all above it.

    In a container the path may be the host's, which is not mounted there; then the mount itself is the container's group.
    """
    own = {}
    for line in _text(proc / "self" / "cgroup").splitlines():
        number, controllers, path = line.split(":", 2)
        own.update(dict.fromkeys([number, *controllers.split(",")], Path(path.strip("/"))))
    for hierarchy, mount, limit, used, reclaimable in CGROUP_FILES:
        here = own.get(hierarchy, Path())
        for group in (here, *here.parents) if ".." not in here.parts else (Path(),):
            yield from _left(cgroup / mount / group, limit, used, reclaimable)


def _left(group: Path, limit_file: str, used_file: str, reclaimable: str) -> Iterator[int]:
    limit, used = _text(group / limit_file).strip(), _text(group / used_file).strip()
    if limit.isdigit() and used.isdigit():  # else: no limit ("max"), or no such group
        kept = re.search(rf"^{reclaimable} (\d+)$", _text(group / "memory.stat"), re.MULTILINE)
        yield max(int(limit) - int(used) + (int(kept[1]) if kept else 0), 0)


def _left_of_address_space(proc: Path) -> Iterator[int]:
    """Yield half of what `ulimit -v` leaves, if it is set: libraries and threads reserve more than they use."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    pages = _text(proc / "self" / "statm").split()
    if limit != resource.RLIM_INFINITY and pages:
        yield max(limit - int(pages[0]) * resource.getpagesize(), 0) // 2


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
