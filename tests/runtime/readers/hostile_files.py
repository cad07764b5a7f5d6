"""Small files that make a decoder allocate gigabytes or compute for minutes: a size in one header, the work from another."""

import io
import struct
import zlib

import numpy as np
import pydicom
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

SIDE = 8000
"""Of a picture in a frame that its header calls 64x64."""


def dicom(syntax=None, **values):
    dataset = pydicom.dcmread(get_testdata_file("CT_small.dcm", download=False))
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    if syntax is not None:
        dataset.file_meta.TransferSyntaxUID = syntax
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def frame(stream, syntax, side=64, bits=8):
    """One compressed frame in a header of grey 64x64 pixels."""
    kind = {"BitsAllocated": bits, "BitsStored": bits, "HighBit": bits - 1, "PixelRepresentation": 0}
    dataset = pydicom.Dataset()
    dataset.PixelData = encapsulate([stream])
    dataset["PixelData"].is_undefined_length = True
    return dicom(syntax, Rows=side, Columns=side, PixelPaddingValue=0, **kind, PixelData=dataset["PixelData"].value)


def picture(kind, side=SIDE, **options):
    buffer = io.BytesIO()
    Image.new("L", (side, side)).save(buffer, kind, **options)
    return buffer.getvalue()


def deflated(size=1 << 29):
    """A deflated data set that ends with a private value of so many zeros."""
    plain = dicom(DeflatedExplicitVRLittleEndian)
    start = 144 + struct.unpack_from("<I", plain, 140)[0]  # behind the file meta information
    body = zlib.decompress(plain[start:], -15)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    creator = struct.pack("<HH2sH", 0x7FE1, 0x10, b"LO", 4) + b"BOMB"
    packed = packer.compress(body + creator + struct.pack("<HH2sHI", 0x7FE1, 0x1010, b"OB", 0, size))
    packed += b"".join(packer.compress(bytes(1 << 24)) for _ in range(size >> 24))
    return plain[:start] + packed + packer.flush()


def jpeg_ls():
    import jpeg_ls as charls

    return bytes(charls.encode_array(np.zeros((SIDE, SIDE), np.uint8)))


def rle():
    """One segment of runs of 128."""
    return struct.pack("<16I", 1, 64, *[0] * 14) + b"\x81\x00" * (1 << 20)


def packets():
    """JPEG 2000 of 64x64 pixels in 65,535 layers, with precincts of one pixel: 260 million empty packets."""
    stream = bytearray(picture("JPEG2000", 64, no_jp2=True, num_resolutions=6))
    at = stream.index(b"\xff\x52")
    length, levels = struct.unpack_from(">H", stream, at + 2)[0], stream[at + 9]
    stream[at + 2 : at + 4] = struct.pack(">H", length + levels + 1)
    stream[at + 4] |= 1
    stream[at + 6 : at + 8] = b"\xff\xff"
    stream[at + 2 + length : at + 2 + length] = bytes([0x00, *[0x11] * levels])
    return bytes(stream)


def boxed(stream):
    """A JP2 file whose first box holds the head of a smaller codestream."""
    head = picture("JPEG2000", 64, no_jp2=True)[:60]
    return (
        b"\0\0\0\x0cjP  \r\n\x87\n"
        + struct.pack(">I4s", 8 + len(head), b"free")
        + head
        + struct.pack(">I4s", 0, b"jp2c")
        + stream
    )


def scans(copies, side=SIDE):
    """A progressive JPEG that repeats its last scan, of about 100 bytes."""
    stream = picture("JPEG", side, progressive=True)
    last = stream[stream.rindex(b"\xff\xda") : -2]
    return stream[:-2] + last * copies + b"\xff\xd9"


def garbled(stream):
    """Other bytes between the markers of a JPEG, which libjpeg skips."""
    return stream[:2] + b"garbage" + stream[2:]


def chunk(name, body):
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(*before, side=64, depth=8, kind=0, row=64):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, depth, kind, 0, 0, 0))
    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(1 + row)) for _ in range(side)) + packer.flush()
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(before) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def profiles(count):
    return png(*[chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes((1 << 20) - 1), 9))] * count)


def tiff(tags, data=bytes(64), pages=1):
    """A TIFF of one strip or tile, with the same directory for each page."""
    content = bytearray(b"II*\0" + struct.pack("<I", 8 + len(data)) + data)
    for page in range(pages):
        content += struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
        content += struct.pack("<I", len(content) + 4 if page < pages - 1 else 0)
    return bytes(content)


def tiles(side=30_000):
    data = zlib.compress(bytes(min(side * side, 1 << 20)))
    data += b"\0" * (len(data) % 2)
    sides = [(tag, 4, 1, size) for tag, size in ((256, 64), (257, 64), (322, side), (323, side))]
    rest = [(258, 3, 1, 8), (259, 3, 1, 8), (262, 3, 1, 1), (277, 3, 1, 1), (324, 4, 1, 8), (325, 4, 1, len(data))]
    return tiff(sorted(sides + rest), data)


def pages(count):
    strip = [(273, 4, 1, 8), (277, 3, 1, 1), (278, 3, 1, 8), (279, 4, 1, 64)]
    return tiff([(256, 3, 1, 8), (257, 3, 1, 8), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), *strip], pages=count)


def items(count, *, defined):
    """A private sequence of empty items: of a stated length, or up to a delimiter."""
    plain = dicom()
    at = plain.index(struct.pack("<HH", 0x7FE0, 0x10))
    body = struct.pack("<HHI", 0xFFFE, 0xE000, 0) * count
    length = len(body) if defined else 0xFFFFFFFF
    end = b"" if defined else struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    return plain[:at] + struct.pack("<HH2sHI", 0x7001, 0x1010, b"SQ", 0, length) + body + end + plain[at:]


def long_value(size=4 << 20):
    """A window center of a million numbers. Only an implicit VR has a length for it."""
    plain = dicom(ImplicitVRLittleEndian)
    at = plain.index(struct.pack("<HH", 0x7FE0, 0x10))
    return plain[:at] + struct.pack("<HHI", 0x0028, 0x1050, size) + b"1\\" * (size // 2) + plain[at:]


HOSTILE = {
    "deflated": (deflated, "more than its header states"),
    "items": (lambda: items(400_000, defined=False), "too many elements"),
    "items of a stated length": (lambda: items(400_000, defined=True), "too many elements"),
    "long value": (long_value, "too long"),
    "JPEG": (lambda: frame(picture("JPEG"), JPEGBaseline8Bit), "stated rows"),
    "JPEG with garbage": (lambda: frame(garbled(picture("JPEG")), JPEGBaseline8Bit), "stated rows"),
    "JPEG with many scans": (lambda: frame(scans(100), JPEGBaseline8Bit, SIDE), "too long to decode"),
    "JPEG 2000": (lambda: frame(picture("JPEG2000", no_jp2=True), JPEG2000Lossless), "stated rows"),
    "JPEG 2000 in boxes": (
        lambda: frame(boxed(picture("JPEG2000", no_jp2=True)), JPEG2000Lossless),
        "stated rows|damaged",
    ),
    "JPEG 2000 with many packets": (lambda: frame(packets(), JPEG2000Lossless), "too long to decode"),
    "JPEG-LS": (lambda: frame(jpeg_ls(), JPEGLSLossless), "stated rows"),
    "RLE": (lambda: frame(rle(), RLELossless), "stated rows"),
    "scans": (lambda: scans(100), "too many scans"),
    "profiles": (lambda: profiles(300), "several color profiles"),
    "tiles": (tiles, "much larger than its picture"),
    "pages": (lambda: pages(20_000), "several images"),
}
"""How each is made, and what the error says."""
