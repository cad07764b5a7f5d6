"""Sort the files of a study: slices, what is no image, and what should be a slice and cannot be read.

    DICOM with an image                               a header
    SR, PR, KO, SEG, RTSTRUCT, DICOMDIR, text,
    PNG, JPEG and other files                         passed over, and counted by kind
    DICOM that is damaged, gzipped or without the
    DICM mark; .dcm files that are not DICOM          an error that names them: a series short of a slice is a wrong result

Hidden files that are not DICOM are left out without a word; hidden folders are counted.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import IO

from medseg_runtime.errors import ImageError
from medseg_runtime.readers.dicom.guard import reading
from medseg_runtime.readers.dicom.slice_header import Header, read_header
from medseg_runtime.readers.dicom.study_files import StudyFile, study_files
from medseg_runtime.readers.file_kind import HEAD, ZIP
from medseg_runtime.readers.image import DIRECTORY, is_dicom
from medseg_runtime.readers.unreadable import PACKED, SAVE_AGAIN, UNPACK, packed_dicom, unreadable_dicom

SHORT = "Copy it again, or remove it if it is no slice: without it the series might be short of one."
MANY_SHORT = "Copy them again, or remove those that are no slices: without them the series might be short of some."
NAMES = frozenset({".dcm", ".dicom", ".dic", ".ima"})
OTHER = (b"\x89PNG", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"GIF8", b"BM", b"%PDF", b"RIFF", b"SIMPLE  =")
"""How files of other formats begin: PNG, JPEG, TIFF, GIF, BMP, PDF, RIFF, FITS."""


@dataclass(frozen=True, slots=True)
class Scan:
    """What the files of a study are."""

    headers: tuple[Header, ...]
    passed_over: Counter[str]
    """Kind -> number of files that hold no image."""

    @property
    def notes(self) -> tuple[str, ...]:
        """The warning that files were passed over, if any were."""
        kinds = ", ".join(f"{number} {kind}" for kind, number in sorted(self.passed_over.items()))
        return (f"passed over as no image: {kinds}",) if kinds else ()


def scan(path: str | os.PathLike[str]) -> Scan:
    """Read the headers of a study's images. Pixels stay on disk.

    path: a folder, searched with its sub-folders, or a zip.

    Raises:
        ImageError: a file cannot be read and may be a slice. The message names it.
    """
    headers: list[Header] = []
    faults: list[tuple[StudyFile, ImageError]] = []
    unknown: list[StudyFile] = []
    passed_over: Counter[str] = Counter()
    for file, opened in study_files(Path(path)):
        try:
            with reading():
                found = _examined(file, opened)
        except ImageError as error:
            faults.append((file, error))
            continue
        if isinstance(found, Header):
            headers.append(found)
        elif found is None:
            unknown.append(file)
        elif not file.hidden or found != NOT_DICOM:
            passed_over[found] += 1
    suffixes = {_suffix(header.file) for header in headers}
    for file in unknown:
        if not file.hidden and _suffix(file) in suffixes:
            faults.append((file, ImageError("this is not DICOM, and is named like the slices", SHORT)))
        elif not file.hidden:
            passed_over[NOT_DICOM] += 1
    if faults:
        raise _together(faults)
    return Scan(tuple(headers), passed_over)


NOT_DICOM = "not DICOM"


def _examined(file: StudyFile, opened: IO[bytes] | None) -> Header | str | None:
    """Return a header, or the kind of a file that is no image; None if it is none of the known kinds.

    Raises:
        ImageError: it cannot be read, and may be a slice.
    """
    if opened is None:
        return NOT_DICOM if not file.path.is_dir() else "hidden folder" if file.hidden else "linked folder"
    if file.name.upper() == DIRECTORY:
        return DIRECTORY
    head = opened.read(HEAD)
    if is_dicom(head):
        return "hidden DICOM" if file.hidden else read_header(file, opened)
    if file.hidden:
        return NOT_DICOM
    if (error := unreadable_dicom(head)) is not None:
        raise error
    if head.startswith(PACKED) and NAMES & set(_suffixes(file)):
        raise packed_dicom()
    if _suffix(file) in NAMES:
        raise ImageError(
            "this is not DICOM: it lacks the DICM mark at byte 128" if head else "the file is empty", SHORT
        )
    if head.startswith(ZIP):
        return "zip"
    if head.startswith(OTHER) or (head and _is_text(head)):
        return NOT_DICOM
    if NAMES & set(_suffixes(file)):  # such as x.dcm.part
        raise ImageError("this is not DICOM, and is named like a slice", SHORT)
    return None


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode("utf-8", "strict")
    except UnicodeDecodeError as error:
        if len(head) < HEAD or error.start < HEAD - 4:  # not a character that is cut in two
            return False
        text = head[: error.start].decode()
    return all(character.isprintable() or character.isspace() for character in text)


def _suffixes(file: StudyFile) -> list[str]:
    return [suffix.lower() for suffix in PurePath(file.name).suffixes]


def _suffix(file: StudyFile) -> str:
    """Return the suffix of a name; empty for one of digits, as in names that are UIDs."""
    last = PurePath(file.name).suffix.lower()
    return "" if last[1:].isdigit() else last


def _together(faults: Sequence[tuple[StudyFile, ImageError]]) -> ImageError:
    """Return one error that names the files, the first three with what is wrong."""
    shown = [f"{file.name}: {error.problem}" for file, error in faults[:3]]
    rest = [f"and {len(faults) - 3} more"] if len(faults) > 3 else []
    remedies = {error.remedy for _, error in faults}
    one = len(faults) == 1 or remedies in ({UNPACK}, {SAVE_AGAIN})
    return ImageError("; ".join(shown + rest), remedies.pop() if one else MANY_SHORT)
