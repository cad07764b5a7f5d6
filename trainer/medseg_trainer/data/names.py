"""The pictures of a folder and its sub-folders, and their names."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from medseg_runtime.errors import DataError
from medseg_runtime.readers.image import DICOM_MAGIC_AT, is_dicom
from medseg_runtime.readers.source import PICTURE_SUFFIXES

DICOM_SUFFIXES = frozenset({".dcm", ".dicom", ".ima"})
SHOWN = 4
"""Folders that a message names."""


def stem_of(name: str) -> str:
    """Return a path without the suffix of a picture or of a JSON file, in Unicode's form NFC.

    A UID contains dots of its own. macOS and its archives write letters with accents in two parts, other systems in one.
    """
    name = unicodedata.normalize("NFC", name)
    stem, dot, suffix = name.rpartition(".")
    known = PICTURE_SUFFIXES | DICOM_SUFFIXES | {".json"}
    return stem if stem and f"{dot}{suffix}".lower() in known else name


def pictures_in(root: Path) -> dict[str, Path]:
    """Return the pictures below a folder, by their path without suffix, sorted.

    Other files are passed over: what is no picture, and what is hidden.

    Raises:
        DataError: two pictures of a folder have one name, or one that is no text.
    """
    found: dict[str, Path] = {}
    for path in sorted(path for path in files_below(root) if _is_picture(path)):
        name = stem_of(path.relative_to(root).as_posix())
        if any("\ud800" <= character <= "\udfff" for character in name):  # bytes that Python could not decode
            raise DataError(f"the name {name!r} below {root.name}/ is not in UTF-8", "Rename it.")
        if name in found:
            raise DataError(
                f"{found[name].name} and {path.name} in {path.parent.name}/ share a name", "Rename one of them."
            )
        found[name] = path
    return found


def images_of(data: Path) -> dict[str, Path]:
    """Return the pictures of the folder images/; see `pictures_in`.

    Raises:
        DataError: there is none.
    """
    root = data / "images"
    if not root.is_dir():
        raise DataError(f"{data.name!r} has no folder images/", "Put the images there.")
    found = pictures_in(root)
    if not found:
        kinds = kinds_below(root)
        raise DataError(
            f"images/ holds no image{kinds and f', but {kinds}'}",
            "Put PNG, JPEG, TIFF, BMP or DICOM files there; write volumes slice by slice.",
        )
    return found


def files_below(root: Path) -> Iterator[Path]:
    """Yield the regular files below a folder that are not hidden. Links are followed, but a folder is visited once."""
    seen = set[Path]()
    for folder, folders, names in os.walk(root, followlinks=True):
        real = Path(folder).resolve()
        folders[:] = [] if real in seen else sorted(name for name in folders if not _hidden(name))
        if real not in seen:
            yield from (path for name in names if not _hidden(name) and (path := Path(folder, name)).is_file())
        seen.add(real)


def kinds_below(root: Path) -> str:
    """Return the most frequent suffixes of the files below a folder, for a message; empty if there is no file."""
    kinds = Counter("".join(path.suffixes[-2:]) if path.suffix == ".gz" else path.suffix for path in files_below(root))
    return ", ".join(f"*{suffix}" for suffix, _ in kinds.most_common(3))


def folders_in(root: Path) -> str:
    """Return the first folders in a folder, for a message; empty if there are none."""
    names = sorted(path.name for path in root.iterdir() if path.is_dir() and not _hidden(path.name))
    return ", ".join(f"{name}/" for name in names[:SHOWN]) + " ..." * (len(names) > SHOWN)


def _hidden(name: str) -> bool:
    return name.startswith((".", "__"))


def _is_picture(path: Path) -> bool:
    suffix = path.suffix.lower()
    if suffix in PICTURE_SUFFIXES or suffix in DICOM_SUFFIXES:
        return True
    try:
        with path.open("rb") as file:
            return is_dicom(file.read(DICOM_MAGIC_AT + 4))
    except OSError:
        return False
