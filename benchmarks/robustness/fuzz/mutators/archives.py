"""Change what is in a zip, in a gzip, or behind the header of a safetensors file, and pack it again."""

from __future__ import annotations

import gzip
import io
import warnings
import zipfile
import zlib
from collections.abc import Callable
from random import Random

from benchmarks.robustness.fuzz.mutators import json_tree, octets

Change = Callable[[bytes, Random], bytes]
ODD_NAMES = (
    "",
    "/",
    "../x",
    "/etc/passwd",
    "a/../b",
    "a\\b",
    "a//b",
    "\x1b[31m",
    "é",
    "x" * 300,
    "CON",
    "a/",
    ".",
    "..",
)
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)


def change_zip(inner: Change) -> Change:
    """Return a mutator of zips. inner: changes a file in it."""

    def change(content: bytes, chance: Random) -> bytes:
        try:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                members = [(info.filename, archive.read(info)) for info in archive.infolist()]
        except Exception as error:  # of every decompressor
            raise ValueError("no zip") from error
        for _ in range(chance.randint(1, 2)):
            if members:
                _change_member(members, inner, chance)
        buffer = io.BytesIO()
        with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w") as archive:
            warnings.simplefilter("ignore")  # a name twice is meant
            for name, data in members:
                method = chance.choice(METHODS) if chance.random() < 0.1 else zipfile.ZIP_DEFLATED
                archive.writestr(name or "x", data, method)
        return octets.change(buffer.getvalue(), chance) if chance.random() < 0.2 else buffer.getvalue()

    return change


def change_gzip(inner: Change) -> Change:
    """Return a mutator of files that may be a gzip. inner: changes what is in it."""

    def change(content: bytes, chance: Random) -> bytes:
        if not content.startswith(b"\x1f\x8b"):
            return inner(content, chance)
        try:
            return gzip.compress(inner(gzip.decompress(content), chance), 1)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError("no gzip") from error

    return change


def change_safetensors(content: bytes, chance: Random) -> bytes:
    """Return a safetensors file with its header changed, and its length mended.

    Raises:
        ValueError: it is none.
    """
    length = int.from_bytes(content[:8], "little")
    header = json_tree.change(content[8 : 8 + length], chance)
    return len(header).to_bytes(8, "little") + header + content[8 + length :]


def _change_member(members: list[tuple[str, bytes]], inner: Change, chance: Random) -> None:
    at = chance.randrange(len(members))
    name, data = members[at]
    kind = chance.randrange(6)
    if kind == 0:
        del members[at]
    elif kind == 1:
        members.append(members[at])
    elif kind == 2:
        members[at] = chance.choice(ODD_NAMES), data
    elif kind == 3:
        members[at] = chance.choice(members)[0], data
    else:
        members[at] = name, inner(data, chance)
