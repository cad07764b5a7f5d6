"""The files of a data set, in a folder or in zips, as one tree."""

from __future__ import annotations

import errno
import glob
import os
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from medseg_runtime.errors import DataError
from medseg_runtime.files.read import opened, read_bytes
from medseg_runtime.files.zip_file import ENCRYPTED, METHODS, SPLIT, BoundedZip, ListTooLong

MAX_MEMBER_BYTES = 1 << 28
"""Of a file in a zip, once it is extracted."""
AGAIN = "Copy or download it again."

_DAMAGES = (OSError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError, struct.error)
"""RuntimeError: a feature that is not known. ValueError: a name that is not in UTF-8."""

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
    return {(name := path.relative_to(root).as_posix()): partial(_content, path, name) for path in sorted(found)}


def files_in_zips(archives: list[Path]) -> Files:
    """Return the files of several zips as one tree.

    Raises:
        DataError: an archive is damaged; the reader of a damaged file raises it too.
    """
    files: Files = {}
    for archive in sorted(archives):
        with _readable(archive):
            content = BoundedZip(archive)
        names = content.namelist()
        if len(twice := Counter(names) - Counter(set(names))):
            raise DataError(f"{archive.name} holds {min(twice)} twice", "Keep one of them, and zip it again.")
        files |= {name: partial(_extracted, archive, content, name) for name in sorted(names)}
    return files


def _content(path: Path, name: str) -> bytes:
    return read_bytes(path, DataError, AGAIN, name=name)


def _extracted(archive: Path, content: BoundedZip, name: str) -> bytes:
    """Return a file of a zip. Its header may lie about its size, so that no more is extracted than may be."""
    member = content.getinfo(name)
    if member.flag_bits & ENCRYPTED:
        raise DataError(f"{archive.name} is encrypted", "Unpack it with its password, and zip it again without.")
    if member.compress_type not in METHODS:
        raise DataError(f"{archive.name}: {name} is compressed with another method than deflate", "Zip it again.")
    if member.file_size > MAX_MEMBER_BYTES:
        raise DataError(f"{archive.name}: {name} has {member.file_size / 2**20:.0f} MiB", "Remove it from the zip.")
    with _readable(archive), content.open(member) as file:
        return file.read(member.file_size + 1)  # one more, so that its end and checksum are looked at


@contextmanager
def _readable(archive: Path) -> Iterator[None]:
    try:
        with opened(archive, DataError, AGAIN, name=archive.name, limit=None):  # neither a folder nor a pipe
            try:
                yield
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                raise zipfile.BadZipFile("File is not a zip file") from error  # it names a place before its beginning
    except DataError:
        raise
    except ListTooLong as error:
        raise DataError(f"{archive.name} holds too many files: {error}", "Pack them into several zips.") from error
    except _DAMAGES as error:
        if _is_part(archive):
            remedy = f"Join the parts first: `zip -s 0 {archive.with_suffix('.zip').name} --out whole.zip`."
            raise DataError(f"{archive.name} is one part of a zip in several", remedy) from error
        raise DataError(f"{archive.name} cannot be read: {error}", AGAIN) from error


def _is_part(archive: Path) -> bool:
    """Tell whether a zip was split into several files: name.z01, name.z02, and name.zip with the list of files."""
    if any(archive.parent.glob(f"{glob.escape(archive.stem)}.[zZ]01")):
        return True
    with archive.open("rb") as file:
        return file.read(len(SPLIT)) == SPLIT
