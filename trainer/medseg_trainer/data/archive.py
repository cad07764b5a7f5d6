"""The files of a data set, in a folder or in zips, as one tree."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from medseg_runtime.errors import DataError
from medseg_runtime.files.read import MAX_FILE_BYTES

Files = dict[str, Callable[[], bytes]]
"""Path in a data set, with forward slashes -> a function that reads the file."""


def files_in_folder(root: Path) -> Files:
    """Return the files of a folder. Links are followed, but a folder is visited once, so cycles end."""
    found, seen = list[Path](), set[Path]()
    for folder, folders, names in os.walk(root, followlinks=True):
        real = Path(folder).resolve()
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        found += [path for name in names if (path := Path(folder, name)).is_file()]
    return {path.relative_to(root).as_posix(): path.read_bytes for path in sorted(found)}


def files_in_zips(archives: list[Path]) -> Files:
    """Return the files of several zips as one tree.

    Raises:
        DataError: an archive is damaged; the reader of a damaged file raises it too.
    """
    files: Files = {}
    for archive in sorted(archives):
        with _readable(archive):
            opened = zipfile.ZipFile(archive)
        files |= {name: partial(_extracted, archive, opened, name) for name in sorted(opened.namelist())}
    return files


def _extracted(archive: Path, opened: zipfile.ZipFile, name: str) -> bytes:
    size = opened.getinfo(name).file_size  # no more is extracted
    if size > MAX_FILE_BYTES:
        raise DataError(f"{archive.name}: {name} has {size / 2**30:.1f} GiB", "Remove it from the zip.")
    with _readable(archive):
        return opened.read(name)


@contextmanager
def _readable(archive: Path) -> Iterator[None]:
    try:
        yield
    except (
        OSError,
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        RuntimeError,
    ) as error:  # RuntimeError: encrypted, unknown
        raise DataError(f"{archive.name} cannot be read: {error}", "Copy or download it again.") from error
