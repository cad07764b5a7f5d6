"""A folder that appears whole or not at all: results, and the exporter's bundles.

    hidden folder beside it => its files are written => all of it flushed to the disk => one rename

A kill at any moment leaves what was there before, or the whole new folder, and at worst a hidden one that a later run sweeps.
Two runs into one folder: the first to finish has it, and the other is told; with `force` the last one has it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Thread

from medseg_runtime.errors import OutputError
from medseg_runtime.files.names import printable

PARTIAL, REPLACED = ".medseg-partial-", ".medseg-replaced-"
"""Prefixes of the hidden folders: of one while it is written, and of an older one while the new one takes its place."""
FLUSHED_AT_ONCE = 4
"""Files that wait for the disk together: a journal takes all of them with one write, where one after the other each waits for
its own."""
STALE_SECONDS = 24 * 3600
"""A partial folder older than this was left by a run that was killed, and is swept by the next one."""


@dataclass(frozen=True, slots=True)
class FolderKind:
    """What a folder of this kind may hold; `force` replaces nothing else."""

    name: str
    """For messages: `result`, `bundle`."""
    mark: str
    """The file that each one has."""
    content: frozenset[str]
    """Names of everything that may lie directly in it."""


def check_output(out: Path, kind: FolderKind, *, force: bool) -> None:
    """Find out before anything is computed whether a folder may be written there.

    Raises:
        OutputError: something else is there, or an older one and no `force`, or the folder round it is not writable.
    """
    where = printable(out)
    try:
        out.lstat()
    except ValueError as error:  # a null character, which pathlib's questions pass over
        raise OutputError(f"{where} is no name for a folder: {error}", "Choose another --out.") from error
    except OSError:
        pass
    try:
        if out.is_symlink() or (out.exists() and not out.is_dir()):
            raise OutputError(f"{where} exists and is not a folder", "Choose another --out.")
        if out.is_dir() and (out.samefile(Path.cwd()) or out.is_mount() or out.name in ("", "..")):
            raise OutputError(
                f"{where} is a folder that someone is in, or a mounted one, and cannot be replaced whole",
                "Give --out a new folder in it.",
            )
        entries = {entry.name for entry in out.iterdir()} if out.is_dir() else set()
        if foreign := entries - kind.content:
            raise OutputError(
                f"{where} holds other files than a {kind.name}, for example {printable(min(foreign))}",
                "Choose another --out.",
            )
        if entries and kind.mark not in entries:
            raise OutputError(f"{where} exists and is no {kind.name}: {kind.mark} is missing", "Choose another --out.")
        if entries and not force:
            raise OutputError(f"{where} exists already", "Choose another --out, or replace it with --force.")
        parent = next(folder for folder in out.absolute().parents if folder.exists())
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(f"{where} cannot be written: {error.strerror}", "Choose another --out.") from error
    if not parent.is_dir():
        raise OutputError(f"{where} lies below a file, {printable(parent.name)}", "Choose another --out.")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise OutputError(f"{where} cannot be written: {printable(parent)} is read-only", "Choose another --out.")


@contextmanager
def published(out: Path, kind: FolderKind, *, force: bool) -> Iterator[Path]:
    """Give a hidden folder to write into, and make it `out` when all went well; otherwise leave no trace.

    Raises:
        OutputError: see `check_output`; or the disk is full, or another run was faster.
    """
    check_output(out, kind, force=force)
    made: list[Path] = []
    partial = out.parent / f"{PARTIAL}{secrets.token_hex(8)}"
    try:
        for folder in reversed([folder for folder in out.absolute().parents if not folder.exists()]):
            folder.mkdir(exist_ok=True)
            made.append(folder)
        _sweep(out.parent.absolute())
        partial.mkdir()
        yield partial
        _sync_tree(partial)
        check_output(out, kind, force=force)  # another run may have been faster
        _swap(partial, out, force=force)
    except BaseException as error:
        _remove(partial)
        for folder in reversed(made):
            try:
                folder.rmdir()
            except OSError:
                break
        if isinstance(error, OSError) and not isinstance(error, OutputError):
            raise OutputError(
                f"{printable(out)} cannot be written: {error.strerror or error}",
                "Free some space, or choose another --out.",
            ) from error
        raise
    for folder in (out, *made):
        with suppress(OSError):  # it stands, whether its name has reached the disk or not
            _sync(folder.parent)


def _swap(partial: Path, out: Path, *, force: bool) -> None:
    """Rename the finished folder to `out`; an older one makes way in the same moment, where the file system can do that."""
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
    _remove(partial)  # it holds the older one now


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two folders' names at once; return whether that worked. Python has no call for it."""
    rename_exchange, here = 2, -100  # RENAME_EXCHANGE and AT_FDCWD of Linux
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    return bool(renameat2(here, os.fsencode(one), here, os.fsencode(other), rename_exchange) == 0)


def _replace(partial: Path, out: Path) -> None:
    """Put the older folder aside and rename the new one; the older one comes back if that fails."""
    replaced = out.parent / f"{REPLACED}{secrets.token_hex(8)}"
    out.rename(replaced)
    try:
        partial.rename(out)
    except BaseException:
        replaced.rename(out)
        raise
    # From here on it is rubbish, and is named so that a later run sweeps what a kill leaves of it.
    rubbish = replaced.rename(replaced.with_name(f"{PARTIAL}{secrets.token_hex(8)}"))
    _remove(rubbish)


def _remove(folder: Path) -> None:
    """Remove a hidden folder of ours, however its files are protected."""
    with suppress(OSError):
        folder.chmod(0o700)
    for path, folders, _ in os.walk(folder):
        for inner in (Path(path, name) for name in folders):
            if not inner.is_symlink():
                with suppress(OSError):
                    inner.chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)


@lru_cache(64)
def _sweep(parent: Path) -> None:
    """Remove what killed runs have left behind; once in a folder, or each of ten thousand results would look through the others."""
    for folder in parent.glob(f"{PARTIAL}*"):
        try:
            if time.time() - folder.stat().st_mtime > STALE_SECONDS:
                _remove(folder)
        except FileNotFoundError:  # another run has just finished, or swept it
            continue


def _sync_tree(top: Path) -> None:
    """Wait until the disk has every file of a folder, and the folders themselves."""
    paths = [Path(folder, name) for folder, _, files in os.walk(top, topdown=False) for name in (*files, "")]
    own, *others = [paths[k::FLUSHED_AT_ONCE] for k in range(min(FLUSHED_AT_ONCE, len(paths)))]
    failed: list[BaseException] = []
    threads = [Thread(target=_sync_all, args=(share, failed)) for share in others]
    for thread in threads:
        thread.start()
    _sync_all(own, failed)
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


def _sync_all(paths: Iterable[Path], failed: list[BaseException]) -> None:
    try:
        for path in paths:
            _sync(path)
    except BaseException as error:  # noqa: BLE001 - the thread that waits for this one raises it
        failed.append(error)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
