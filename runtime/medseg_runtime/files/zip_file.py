"""Zips that others made: opened without reading a list of files that takes gigabytes, and read only as far as an entry says.

APPNOTE.TXT, sections 4.3.12 and 4.4 (https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT).
"""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path

MAX_LIST_BYTES = 1 << 24
"""Of the central directory, which `zipfile` reads at once: more than 150,000 files with usual names. Each takes a kilobyte of memory."""
METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
"""The compressions of which no more is extracted than is asked for. A kilobyte of bzip2 may be gigabytes."""
ENCRYPTED = 0x1
"""Bit of an entry's flags (section 4.4.4)."""
SPLIT = b"PK\7\x08"
"""How the first part of a zip in several parts begins (section 8.5.3)."""


class ListTooLong(zipfile.BadZipFile):
    """The list of files is longer than `MAX_LIST_BYTES`."""


class BoundedZip(zipfile.ZipFile):
    """A zip that is read.

    Raises:
        ListTooLong: it lists too many files.
        zipfile.BadZipFile, OSError, ValueError: it is damaged, or cannot be read.
    """

    _file: _File | None = None

    def __init__(self, path: Path) -> None:
        self._file = _File(path.open("rb", buffering=0))
        try:
            super().__init__(self._file)
        except BaseException as error:
            self._file.close()
            if isinstance(error, NotImplementedError | struct.error):
                raise zipfile.BadZipFile(str(error)) from error
            raise
        self._file.limited = False

    def close(self) -> None:
        """Close the zip and its file."""
        super().close()
        if self._file is not None:
            self._file.close()


class _File(io.BufferedReader):
    """A file of which `zipfile` reads no list of files that is too long."""

    limited = True

    def read(self, size: int | None = -1, /) -> bytes:
        if self.limited and size is not None and size > MAX_LIST_BYTES:
            raise ListTooLong(f"its list of files has {size / 2**20:.0f} MiB")
        return super().read(size)
