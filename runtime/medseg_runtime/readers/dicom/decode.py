"""Encoded pixels of one frame => stored values, by way of pydicom (PS3.5, chapter 8).

A stored value takes `BitsStored` bits of a cell, with its highest in bit `HighBit`. The other bits of a cell may hold anything, such as
the overlays of older files, and are not part of the value.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import pydicom
from PIL import Image
from pydicom.encaps import get_frame
from pydicom.pixels.decoders.base import Decoder, get_decoder

from medseg_runtime.errors import ImageError
from medseg_runtime.model.preprocess import Pixels
from medseg_runtime.readers.codestream import MAX_WORK, Codestream, parse_codestream, rle_fits
from medseg_runtime.readers.dicom.codecs import cannot_decode, is_decoded_here
from medseg_runtime.readers.dicom.frame_header import FrameHeader
from medseg_runtime.readers.dicom.guard import DAMAGED
from medseg_runtime.readers.dicom.header import COLOR, PIXELS, number_of_frames
from medseg_runtime.readers.raster.picture import FORMATS, check_whole, pillow_errors

CELLS = frozenset({1, 8, 16, 32, 64})
"""Sizes of a cell in bits."""
MAX_BITS = 32
AS_PNG = "Save it as PNG with `dcmj2pnm {} in.dcm out.png`, and give that."
YBR = frozenset({"YBR_FULL", "YBR_FULL_422"})
RETIRED_YBR = frozenset({"YBR_PARTIAL_420", "YBR_PARTIAL_422"})
RLE = pydicom.uid.RLELossless
RLE_PADDING = 1 << 10
"""Bytes that a segment may have beyond its pixels."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stored:
    """The stored values of one frame."""

    values: Pixels
    """(H, W) grey values or palette indices, or (H, W, 3) RGB."""
    cells: Pixels
    """The same as `values`, with all bits of their cells."""
    bits: int
    """Of a value; 0 for floats."""
    signed: bool


def decoder_of(dataset: pydicom.Dataset) -> Decoder:
    """Return pydicom's decoder of an object's transfer syntax.

    Raises:
        ImageError: it has none, as for video; or the transfer syntax is not stated.
    """
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if not syntax:
        raise ImageError("the DICOM file does not state its transfer syntax", DAMAGED)
    try:
        return get_decoder(syntax)
    except NotImplementedError:
        raise cannot_decode(syntax, None) from None


def stored_values(header: FrameHeader, number: int) -> Stored:
    """Decode one frame. number: counted from 1.

    Raises:
        ImageError: damaged, or of a coding that no decoder here takes.
    """
    dataset = header.dataset
    decoder = decoder_of(dataset)
    syntax = decoder.UID
    stream = _codestream(dataset, number, syntax)
    if not decoder.is_available:
        raise cannot_decode(syntax, stream)
    if syntax.is_encapsulated and syntax != RLE and stream is None:  # a decoder might still find a size in it
        raise _damaged(syntax)
    color = dataset.PhotometricInterpretation in COLOR
    _check_cells(dataset)
    if color:
        _check_colors(dataset, syntax, stream)
    options: Any = {"correct_unused_bits": color}  # of grey values below, where High Bit is known too
    decoded_to_rgb = stream is not None and stream.transformed and dataset.PhotometricInterpretation in YBR
    if stream is not None and decoded_to_rgb:  # pydicom would convert it once more
        options |= {"raw": True} | ({"decoding_plugin": "pillow"} if stream.coding == "JPEG" else {})
    try:
        values, properties = decoder.as_array(dataset, index=number - 1, **options)
    except (NotImplementedError, RuntimeError):  # none of the decoders could decode it
        if not is_decoded_here(stream):
            raise cannot_decode(syntax, stream) from None
        raise _damaged(syntax) from None
    if stream is not None and stream.coding == "JPEG" and stream.bits == 8:
        _check_whole(header, number)
    elif stream is not None and not stream.complete:
        header.warn("the compressed picture lacks the mark of its end, and a part of it may be missing")
    if values.shape[:2] != (dataset.Rows, dataset.Columns):
        raise _other_size()
    if color and not decoded_to_rgb and properties["photometric_interpretation"] != "RGB":
        raise _not_converted()
    if not syntax.is_encapsulated:
        _warn_of_more_pixels(header, values)
    if values.dtype.kind == "f":
        return Stored(values=values, cells=values, bits=0, signed=True)
    return _without_unused_bits(header, values, stream, color=color)


def _check_cells(dataset: pydicom.Dataset) -> None:
    """Refuse what pydicom does not convert: cells of odd sizes, and YBR of more than 8 bits."""
    bits = int(dataset.get("BitsAllocated") or 0)
    if "PixelData" in dataset and bits not in CELLS:
        raise ImageError(
            f"DICOM pixels in cells of {bits} bits (BitsAllocated) are not supported",
            AS_PNG.format("--min-max-window --write-16-bit-png"),
        )
    if bits > 8 and dataset.PhotometricInterpretation in YBR:
        raise _not_converted()


def _check_colors(dataset: pydicom.Dataset, syntax: pydicom.uid.UID, stream: Codestream | None) -> None:
    """Refuse colors that would come out wrong: of a retired kind, or YBR where the header says RGB.

    A JPEG with a JFIF marker is YBR, and pydicom takes it as such.
    """
    photometric = dataset.PhotometricInterpretation
    if not syntax.is_encapsulated and photometric in RETIRED_YBR:
        raise _not_converted()
    if stream is not None and photometric == "RGB" and stream.subsampled and not (stream.transformed or stream.jfif):
        raise ImageError(
            "the DICOM image's colors are coded as YBR, and PhotometricInterpretation says RGB",
            "Decompress it with `dcmdjpeg --conv-lossy in.dcm out.dcm`.",
        )


def _not_converted() -> ImageError:
    return ImageError("the colors of the DICOM image cannot be converted to RGB here", AS_PNG.format("--write-png"))


def _codestream(dataset: pydicom.Dataset, number: int, syntax: pydicom.uid.UID) -> Codestream | None:
    """Read a compressed frame's own header, and compare it with the data set before anything is decoded."""
    if not syntax.is_encapsulated:
        return None
    try:
        content = get_frame(dataset.PixelData, number - 1, number_of_frames=number_of_frames(dataset))
    except Exception:  # noqa: BLE001 - pydicom raises many types for damaged fragments; the decoder says so too
        return None
    if syntax == RLE:
        if not rle_fits(content, RLE_PADDING + dataset.Rows * dataset.Columns):
            raise _other_size()
        return None
    stream = parse_codestream(content)
    if stream is not None:
        _compare(stream, dataset)
    return stream


def _check_whole(header: FrameHeader, number: int) -> None:
    """Refuse a JPEG whose scan is cut short: libjpeg fills it with grey in silence."""
    content = get_frame(header.dataset.PixelData, number - 1, number_of_frames=number_of_frames(header.dataset))
    with pillow_errors(content), Image.open(io.BytesIO(content), formats=FORMATS) as picture:
        picture.load()
        for warning in check_whole(picture, content):
            header.warn(warning)


def _warn_of_more_pixels(header: FrameHeader, values: Pixels) -> None:
    dataset = header.dataset
    held = sum(len(dataset[keyword].value) for keyword in PIXELS if keyword in dataset)
    if 8 * held >= (header.frames + 1) * values.size * int(dataset.BitsAllocated):
        header.warn("the file holds more pixels than NumberOfFrames says, and they were not used")


def _compare(stream: Codestream, dataset: pydicom.Dataset) -> None:
    if (stream.height, stream.width) != (dataset.Rows, dataset.Columns):
        raise _other_size()
    if stream.components != dataset.SamplesPerPixel or stream.bits > dataset.BitsAllocated:
        raise ImageError("the DICOM pixels do not have the stated samples per pixel or bits", DAMAGED)
    if stream.work > MAX_WORK:
        raise ImageError("the DICOM pixels would take too long to decode: they have too many scans or layers", DAMAGED)


def _damaged(syntax: pydicom.uid.UID) -> ImageError:
    return ImageError(f"the DICOM pixels are damaged or cut short ({syntax.name})", DAMAGED)


def _other_size() -> ImageError:
    return ImageError("the DICOM pixels do not have the stated rows and columns", DAMAGED)


def _without_unused_bits(header: FrameHeader, cells: Any, stream: Codestream | None, *, color: bool) -> Stored:
    """Take the stored values out of their cells (PS3.5, 8.1.1).

    A compressed picture may hold just the stored values, whatever High Bit says.
    """
    dataset = header.dataset
    bits, signed = int(dataset.BitsStored), dataset.PixelRepresentation == 1
    held = int(dataset.BitsAllocated) if stream is None else stream.bits
    if bits > MAX_BITS:
        raise ImageError(f"DICOM pixels of {bits} bits are not supported", f"Save it with {MAX_BITS} bits or fewer.")
    lowest = _lowest_bit(header, bits, held)
    if color:
        if lowest:
            raise ImageError("colors with unused low bits (HighBit) are not supported", DAMAGED)
        return Stored(values=cells, cells=cells, bits=min(bits, held), signed=signed)
    if lowest and (cells & ((1 << lowest) - 1)).any():
        raise ImageError("the DICOM pixels use bits below those that HighBit and BitsStored name", DAMAGED)
    values = cells
    if lowest or bits < min(held, 8 * cells.dtype.itemsize):
        width = 8 * cells.dtype.itemsize
        values = (cells << (width - lowest - bits)) >> (width - bits)  # an arithmetic shift keeps the sign
        if (values << lowest != cells).any():
            header.warn("bits of the pixels that HighBit and BitsStored do not name were not used")
    return Stored(values=values, cells=cells, bits=min(bits, held), signed=signed)


def _lowest_bit(header: FrameHeader, bits: int, held: int) -> int:
    """Return the position of a value's lowest bit in its cell. held: number of bits of a cell."""
    high = header.number("HighBit")
    if high is None:
        return 0
    if not (high.is_integer() and bits - 1 <= high < header.dataset.BitsAllocated):
        header.not_used("HighBit")
        return 0
    return int(high) + 1 - bits if high < held else 0
