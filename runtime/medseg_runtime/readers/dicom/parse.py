"""Parse a DICOM file by way of pydicom, with work and memory that the file's size and its own Rows and Columns bound.

elements and items      at most `MAX_READS` reads of the file; a million empty items would take a minute
deflated data sets      at most the pixels that the header states, and `MAX_HEADER_BYTES`; pydicom alone inflates without an end
values                  of text and numbers at most `MAX_VALUE_BYTES`, also where a length takes 32 bits
"""

from __future__ import annotations

import io
import zlib
from typing import BinaryIO

import pydicom
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.filereader import read_dataset, read_sequence
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32

from medseg_runtime.errors import ImageError
from medseg_runtime.files.read import MAX_FILE_BYTES
from medseg_runtime.readers.dicom.guard import DAMAGED

FREE_READS, BYTES_PER_READ, ITEM_READS = 300_000, 32, 10
"""How often a file may be read: so often, and once more for each so many of its bytes.

An element takes one to three reads of about 1.5 us; an item counts as ten. A frame of an enhanced object takes about 250, beside pixels
of at least some thousand bytes.
"""
MAX_HEADER_BYTES = 64 << 20
"""Most bytes of a deflated data set besides its pixels."""
MAX_VALUE_BYTES = 1 << 20
LARGE_SEQUENCE_BYTES = 1 << 20
"""Sequences that pydicom parses later are counted from this size on."""
ITEM = (b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00")
"""The tag of an item (PS3.5, section 7.5), little and big endian."""


def parse(file: BinaryIO, *, defer_size: int | None = None) -> pydicom.FileDataset:
    """Parse a DICOM Part 10 file.

    file: open at its beginning. defer_size: values above so many bytes stay on disk.

    Raises:
        ImageError: it has too many elements, or inflates to more than its header states.
        Exception: any other, of pydicom, for damaged files.
    """
    budget = [FREE_READS + file.seek(0, io.SEEK_END) // BYTES_PER_READ]
    file.seek(0)
    try:
        dataset = _parse(file, budget, defer_size)
    except Exception:
        if budget[0] >= 0:
            raise
    if budget[0] < 0:  # pydicom turns what a file raises into errors of its own, or goes on with what it has
        raise ImageError("the DICOM file has too many elements or items for its size", DAMAGED)
    return dataset


def _parse(file: BinaryIO, budget: list[int], defer_size: int | None) -> pydicom.FileDataset:
    try:
        dataset = pydicom.dcmread(_BoundedFile(file, budget), defer_size=defer_size)
    except _Deflated:
        dataset = _deflated(file, budget)
    _check_elements(dataset, budget)
    return dataset


class _Deflated(Exception):  # noqa: N818 - no error
    """pydicom has come to the beginning of a deflated data set."""


class _BoundedFile:
    """A file that can be read so many times.

    pydicom asks for the rest of a file only to inflate it. That ends here.
    """

    def __init__(self, file: BinaryIO, budget: list[int]) -> None:
        """budget: [reads that are left], which several files may share."""
        self._file, self.budget = file, budget
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        if size < 0:
            raise _Deflated
        content = self._file.read(size)
        self.budget[0] -= ITEM_READS if content[:4] in ITEM else 1
        if self.budget[0] < 0:
            raise OSError
        return content


def _deflated(file: BinaryIO, budget: list[int]) -> pydicom.FileDataset:
    """Parse a deflated file (PS3.5, section A.5) that is read up to its deflated part."""
    start = file.tell()
    compressed = file.read()
    content, whole = _inflate(compressed, MAX_HEADER_BYTES)
    if not whole:
        header = read_dataset(
            _BoundedFile(io.BytesIO(content), budget),  # type: ignore[arg-type]  # as above
            is_implicit_VR=False,
            is_little_endian=True,
            stop_when=lambda tag, _vr, _length: tag >= 0x7FE00008,  # the first of the pixels' elements
        )
        content, whole = _inflate(compressed, min(MAX_HEADER_BYTES + _pixel_bytes(header), MAX_FILE_BYTES))
    if not whole:
        raise ImageError("the deflated DICOM file holds more than its header states", DAMAGED)
    file.seek(0)
    dataset = pydicom.dcmread(io.BytesIO(file.read(start)))  # its file meta information alone
    body = read_dataset(_BoundedFile(io.BytesIO(content), budget), is_implicit_VR=False, is_little_endian=True)  # type: ignore[arg-type]  # as above
    dataset.update(body)
    dataset.set_original_encoding(is_implicit_vr=False, is_little_endian=True, character_encoding=body._character_set)  # noqa: SLF001 - as dcmread does
    return dataset


def _inflate(compressed: bytes, limit: int) -> tuple[bytes, bool]:
    """Return at most this many bytes, and whether they are all."""
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    content = stream.decompress(compressed, limit)
    return content, stream.eof or not (stream.unconsumed_tail or len(content) == limit)


def _pixel_bytes(header: pydicom.Dataset) -> int:
    numbers = [int(header.get(keyword) or 1) for keyword in ("Rows", "Columns", "SamplesPerPixel", "NumberOfFrames")]
    size = (int(header.get("BitsAllocated") or 8) + 7) // 8
    for number in numbers:
        size *= max(number, 1)
    return size


def _check_elements(dataset: pydicom.Dataset, budget: list[int]) -> None:
    """Check what pydicom parses when it is asked for: large sequences, and long values."""
    for element in dataset.elements():
        if not isinstance(element, RawDataElement) or not isinstance(element.value, bytes):
            continue
        if len(element.value) > LARGE_SEQUENCE_BYTES and _is_sequence(element):
            _check_sequence(element, budget)
        elif len(element.value) > MAX_VALUE_BYTES and _known_vr(element) not in (None, *EXPLICIT_VR_LENGTH_32):
            raise ImageError("a value in the DICOM header is too long", DAMAGED)


def _check_sequence(element: RawDataElement, budget: list[int]) -> None:
    value: bytes = element.value or b""
    items = read_sequence(
        _BoundedFile(io.BytesIO(value), budget),  # type: ignore[arg-type]  # as above
        element.is_implicit_VR,
        element.is_little_endian,
        len(value),
        pydicom.charset.default_encoding,
    )
    for item in items:
        _check_elements(item, budget)


def _is_sequence(element: RawDataElement) -> bool:
    vr = _known_vr(element)
    return vr == "SQ" or (vr in (None, "UN") and element.value is not None and element.value[:4] in ITEM)


def _known_vr(element: RawDataElement) -> str | None:
    """Return the VR that pydicom will take; None for an unknown element without one."""
    if element.VR not in (None, "UN"):
        return str(element.VR)
    try:
        return dictionary_VR(element.tag)
    except KeyError:
        return element.VR
