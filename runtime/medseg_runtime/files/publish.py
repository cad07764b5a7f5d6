"""Write a folder whole or not at all: results, and the exporter's bundles.

    write to a hidden folder beside it => flush its files to the disk => rename

A process that is killed leaves the old folder or the whole new one, and at worst a hidden folder that a later run removes (`sweep`). If two
runs write to one folder, the first to finish keeps it and the other raises; with `force` the last one keeps it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Thread

from medseg_runtime.errors import OutputError
from medseg_runtime.files.failures import remedy_for
from medseg_runtime.files.names import printable
from medseg_runtime.files.sweep import claim, holds, remove_folder, remove_stale

PARTIAL, REPLACED = ".medseg-partial-", ".medseg-replaced-"
"""Prefixes of hidden folders: of the new one while it is written, and of the old one while it is replaced."""
PRIVATE = 0o700
"""Mode of a hidden folder: what a killed run leaves may be of a patient, and is nobody else's to read."""
TRY_AGAIN = "Run it again, or choose an --out in a folder that only you can write to."
FLUSHED_AT_ONCE = 4
"""Files flushed in parallel: a journaling file system commits them in one write."""


@dataclass(frozen=True, slots=True)
class FolderKind:
    """The content of a kind of folder; `force` replaces only such folders."""

    name: str
    """In messages: `result` or `bundle`."""
    mark: str
    """A file that every such folder has."""
    content: frozenset[str]
    """All names that may be directly in it."""


def check_output(out: Path, kind: FolderKind, *, force: bool) -> None:
    """Check that a folder can be written, before anything is computed.

    Raises:
        OutputError: something else is there, or a folder of this kind without `force`, or the parent is not writable.
    """
    where = printable(out)
    try:
        out.lstat()
    except ValueError as error:  # a null character, which pathlib's tests ignore
        raise OutputError(f"{where} is not a valid folder name: {error}", "Choose another --out.") from error
    except OSError:
        pass
    try:
        if out.is_symlink() or (out.exists() and not out.is_dir()):
            raise OutputError(f"{where} exists and is not a folder", "Choose another --out.")
        if out.is_dir() and (out.samefile(Path.cwd()) or out.is_mount() or out.name in ("", "..")):
            raise OutputError(
                f"{where} is the working folder or a mount point, and cannot be replaced",
                "Give --out a new folder in it.",
            )
        entries = {entry.name for entry in out.iterdir()} if out.is_dir() else set()
        if foreign := entries - kind.content:
            raise OutputError(
                f"{where} holds other files than a {kind.name}, for example {printable(min(foreign))}",
                "Choose another --out.",
            )
        if entries and kind.mark not in entries:
            raise OutputError(
                f"{where} exists and is not a {kind.name}: {kind.mark} is missing", "Choose another --out."
            )
        if entries and not force:
            raise OutputError(f"{where} exists already", "Choose another --out, or replace it with --force.")
        parent = next(folder for folder in out.absolute().parents if folder.exists())
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(f"{where} cannot be written: {error.strerror}", "Choose another --out.") from error
    if not parent.is_dir():
        raise OutputError(f"{where} is below a file, {printable(parent.name)}", "Choose another --out.")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise OutputError(f"{where} cannot be written: {printable(parent)} is read-only", "Choose another --out.")


@contextmanager
def published(out: Path, kind: FolderKind, *, force: bool) -> Iterator[Path]:
    """Give a hidden folder to write to. Rename it to `out` at the end of the block; remove it if the block fails.

    Raises:
        OutputError: as `check_output`; or the disk is full, or another run was faster.
    """
    check_output(out, kind, force=force)
    made: list[Path] = []
    partial, held = out.parent / f"{PARTIAL}{secrets.token_hex(8)}", None
    try:
        for folder in reversed([folder for folder in out.absolute().parents if not folder.exists()]):
            folder.mkdir(exist_ok=True)
            made.append(folder)
        _remove_stale(out.parent.absolute())
        partial.mkdir()
        held = claim(partial)
        if held is None:
            raise OutputError(f"{printable(out)} cannot be written: another process took its folder", TRY_AGAIN)
        mode = stat.S_IMODE(os.fstat(held).st_mode)
        os.fchmod(held, PRIVATE)
        yield partial
        _sync_tree(partial)
        check_output(out, kind, force=force)  # another run may have been faster
        if not holds(held, partial):
            raise OutputError(f"{printable(out)} cannot be written: its hidden folder was exchanged", TRY_AGAIN)
        os.fchmod(held, mode)
        _swap(partial, out, force=force)
    except BaseException as error:
        if held is None:
            with suppress(OSError):  # it is not there, or empty
                partial.rmdir()
        elif holds(held, partial):
            remove_folder(partial)
        for folder in reversed(made):
            try:
                folder.rmdir()
            except OSError:
                break
        if isinstance(error, OSError) and not isinstance(error, OutputError):
            raise OutputError(
                f"{printable(out)} cannot be written: {error.strerror or error}",
                remedy_for(error, "Free some space, or choose another --out."),
            ) from error
        raise
    finally:
        if held is not None:
            os.close(held)
    for folder in (out, *made):
        with suppress(OSError):  # the folder is complete, even if its name is not flushed
            _sync(folder.parent)


def _swap(partial: Path, out: Path, *, force: bool) -> None:
    """Rename the finished folder to `out`, atomically exchanging it with an old one where the file system can."""
    try:
        partial.rename(out)  # on nothing, or on an empty folder
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
    else:
        return
    if not force:
        raise OutputError(f"{printable(out)} was written by another run meanwhile", "Choose another --out.")
    if not _exchange(partial, out):
        _replace(partial, out)
        return
    remove_folder(partial)  # it is the old folder now


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two folders' names atomically, which Python has no call for; return whether that worked."""
    rename_exchange, here = 2, -100  # RENAME_EXCHANGE and AT_FDCWD of Linux
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    return bool(renameat2(here, os.fsencode(one), here, os.fsencode(other), rename_exchange) == 0)


def _replace(partial: Path, out: Path) -> None:
    """Move the old folder aside and rename the new one; restore the old one if that fails."""
    replaced = out.parent / f"{REPLACED}{secrets.token_hex(8)}"
    out.rename(replaced)
    try:
        partial.rename(out)
    except BaseException:
        replaced.rename(out)
        raise
    # Give the old folder the prefix of partial ones, so that a later run removes what a killed one leaves of it.
    obsolete = replaced.rename(replaced.with_name(f"{PARTIAL}{secrets.token_hex(8)}"))
    remove_folder(obsolete)


@lru_cache(64)
def _remove_stale(parent: Path) -> None:
    """Remove what killed runs left; once per folder and process, because a listing for each of many results is slow."""
    remove_stale(parent, PARTIAL)


def _sync_tree(top: Path) -> None:
    """Flush every file and folder of a tree to the disk."""
    paths = [Path(folder, name) for folder, _, files in os.walk(top, topdown=False) for name in (*files, "")]
    own, *others = [paths[k::FLUSHED_AT_ONCE] for k in range(min(FLUSHED_AT_ONCE, len(paths)))]
    failed: list[BaseException] = []
    threads = []
    for share in others:
        thread = Thread(target=_sync_all, args=(share, failed))
        try:
            thread.start()
        except RuntimeError:  # the system allows no more threads
            own += share
        else:
            threads.append(thread)
    _sync_all(own, failed)
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


def _sync_all(paths: Iterable[Path], failed: list[BaseException]) -> None:
    try:
        for path in paths:
            _sync(path)
    except BaseException as error:  # noqa: BLE001 - the waiting thread raises it
        failed.append(error)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
