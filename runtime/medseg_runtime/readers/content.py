"""The bytes of an image: from a path, from memory, from an open file, or from a data set of pydicom."""

from __future__ import annotations

import io
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from medseg_runtime.errors import ImageError
from medseg_runtime.files.read import MAX_FILE_BYTES, read_bytes
from medseg_runtime.readers.source import READABLE

if TYPE_CHECKING:
    import pydicom

URL = re.compile(r"[a-z][a-z0-9+.-]+:/", re.IGNORECASE)
"""How a URL begins; a path of it has one slash."""


PIECE_BYTES = 1 << 24
"""What is read of an open file at once."""


class BinaryFile(Protocol):
    """Anything that is opened in binary mode: a file, `io.BytesIO`, a response of an HTTP library."""

    def read(self, size: int = -1, /) -> bytes:
        """Return at most `size` bytes from the current position."""
        ...


Readable: TypeAlias = "str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryFile | pydicom.Dataset"
"""A path, or what holds the bytes of a file."""


def is_readable(source: object) -> bool:
    """Tell whether `content_of` takes it."""
    return (
        isinstance(source, str | os.PathLike | bytes | bytearray | memoryview)
        or hasattr(source, "read")
        or _is_data_set(source)
    )


def content_of(source: Any) -> bytes:
    """Return the bytes of a file.

    source: a `Readable`. An open file is read from its current position; a pydicom `Dataset` is written to memory, as its file would be.

    Raises:
        ImageError: it cannot be read, is empty, is larger than `MAX_FILE_BYTES`, or is a URL.
    """
    if isinstance(source, str | os.PathLike):
        refuse_url(source)
        return read_bytes(Path(source), ImageError, READABLE)
    if isinstance(source, bytes | bytearray | memoryview):
        content = bytes(source)
    elif _is_data_set(source):
        content = _written(source)
    else:
        content = _read(source)
    if not content:
        raise ImageError(
            "there are no bytes to read",
            "Give the content of an image file; go back to the start of an open file with seek(0).",
        )
    if len(content) > MAX_FILE_BYTES:
        raise ImageError(f"there are more than {MAX_FILE_BYTES >> 30} GiB to read", "Give a crop of the image.")
    return content


def refuse_url(path: str | os.PathLike[str]) -> None:
    """Refuse a URL that is given as a path.

    Raises:
        ImageError: it is one, and no file has that name.
    """
    if URL.match(os.fsdecode(path)) and not os.path.lexists(path):
        raise ImageError(
            "this is a URL, and nothing is fetched from a network", "Download it, and give the file or its bytes."
        )


def _read(source: Any) -> bytes:
    pieces: list[bytes] = []
    left = MAX_FILE_BYTES + 1
    while left > 0 and (
        piece := _piece(source, min(left, PIECE_BYTES))
    ):  # an unbuffered stream returns what has arrived
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


def _piece(source: Any, size: int) -> bytes:
    try:
        piece = source.read(size)
    except Exception as error:  # closed, not open for reading, a read() of another kind, or an error of an HTTP library
        raise ImageError(f"the open file cannot be read ({type(error).__name__})", _OPEN_BINARY) from error
    if isinstance(piece, bytes | bytearray | memoryview):
        return bytes(piece)
    if hasattr(piece, "close"):  # of a coroutine: it will not be awaited
        piece.close()
    raise ImageError(f"read() of {type(source).__name__} returned {type(piece).__name__}, not bytes", _OPEN_BINARY)


_OPEN_BINARY = "Open the file with mode 'rb', or give its bytes."


def _is_data_set(source: object) -> bool:
    """Tell whether it is a pydicom data set, without importing pydicom."""
    return any(kind.__module__ == "pydicom.dataset" and kind.__name__ == "Dataset" for kind in type(source).__mro__)


def _written(dataset: pydicom.Dataset) -> bytes:
    from medseg_runtime.readers.dicom.guard import silenced

    content = io.BytesIO()
    with silenced():
        try:
            dataset.save_as(content, enforce_file_format=True)
        except Exception as error:  # noqa: BLE001 - many types; `from None` because their text may quote the data set
            raise ImageError(
                f"the pydicom data set cannot be written as a file ({type(error).__name__})",
                "Set its file_meta with the transfer syntax, or give the bytes of its file.",
            ) from None
    return content.getvalue()
