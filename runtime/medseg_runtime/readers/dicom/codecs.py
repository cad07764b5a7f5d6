"""Pixels that cannot be decoded here: the name of their coding, and what helps."""

from __future__ import annotations

from importlib.util import find_spec

from pydicom.uid import UID

from medseg_runtime.errors import ImageError
from medseg_runtime.readers.codestream import Codestream
from medseg_runtime.readers.dicom.guard import EXTRA

_SYNTAX = "1.2.840.10008.1.2."
_JPEG = f"{_SYNTAX}4."
LOSSLESS = frozenset({f"{_JPEG}57", f"{_JPEG}70"})
JPEG_LS = frozenset({f"{_JPEG}80", f"{_JPEG}81"})
JPEG_2000 = frozenset(f"{_JPEG}{last}" for last in (90, 91, 201, 202, 203))
"""With high-throughput JPEG 2000, which the same decoder takes."""
ON_A_SERVER = frozenset({f"{_JPEG}94", f"{_JPEG}95", f"{_JPEG}204", f"{_JPEG}205"})
NAMES = {  # those that pydicom does not know
    f"{_SYNTAX}1.98": "Encapsulated Uncompressed",
    f"{_SYNTAX}8.1": "Deflated Image Frame Compression",
    f"{_JPEG}92": "JPEG 2000 Part 2 (Lossless Only)",
    f"{_JPEG}93": "JPEG 2000 Part 2",
    f"{_JPEG}110": "JPEG XL Lossless",
    f"{_JPEG}111": "JPEG XL JPEG Recompression",
    f"{_JPEG}112": "JPEG XL",
}
OR_DAMAGED = "If that fails too, the file is damaged: export it again."
LIBJPEG = "`pip install pylibjpeg pylibjpeg-libjpeg`, the second of which is GPL-3"


def is_video(syntax: UID) -> bool:
    """Tell whether the pixels are a video stream: MPEG-2, H.264 or HEVC (PS3.5, A.4.5 to A.4.7), or one of SMPTE ST 2110."""
    last = str(syntax).removeprefix(_JPEG).partition(".")[0]
    return (last.isdigit() and 100 <= int(last) <= 108) or str(syntax).startswith(f"{_SYNTAX}7.")


def is_decoded_here(stream: Codestream | None) -> bool:
    """Tell whether the decoders take every picture of this kind, so that one that they refuse is damaged."""
    if stream is None or not stream.complete:
        return True
    if stream.coding == "JPEG 2000":
        return find_spec("openjpeg") is not None
    return stream.coding == "JPEG" and stream.bits == 8


def cannot_decode(syntax: UID, stream: Codestream | None) -> ImageError:
    """Return the error for pixels that no decoder here takes.

    stream: what the compressed frame says of itself, if it can be read.
    """
    name = NAMES.get(syntax, syntax.name)
    coding = f"{name}: {stream}" if stream is not None else name
    if not syntax.is_transfer_syntax and syntax not in NAMES:
        coding = f"the transfer syntax {syntax} is not known" if syntax.is_valid else "the transfer syntax is not known"
    return ImageError(f"the DICOM pixels cannot be decoded here ({coding})", _remedy(syntax, stream))


def _remedy(syntax: UID, stream: Codestream | None) -> str:
    if is_video(syntax):
        return (
            "It is a video: take it whole with --frames all, or take it out with `gdcmraw -i in.dcm -o clip.mpg`, save a frame as PNG with "
            "`ffmpeg -i clip.mpg -frames:v 1 frame.png`, and give that."
        )
    if syntax in ON_A_SERVER:
        return "Its pixels are on a server: export it with its pixels from its archive."
    if syntax.startswith(f"{_JPEG}11"):
        return (
            "Take the picture out with `dcmdump --write-pixel . in.dcm`, convert it with `djxl in.dcm.1.raw in.png`, "
            "and give that."
        )
    if _lacks_extra(syntax):
        return EXTRA
    if syntax in JPEG_LS:
        return f"Decompress it first: `dcmdjpls in.dcm out.dcm`. {OR_DAMAGED}"
    if syntax in LOSSLESS or (stream is not None and stream.coding.startswith("JPEG")):
        return f"Decompress it with `dcmdjpeg in.dcm out.dcm`, or install a decoder: {LIBJPEG}. {OR_DAMAGED}"
    return "Export it again from its archive, as Explicit VR Little Endian."


def _lacks_extra(syntax: UID) -> bool:
    """Tell whether the decoder of the extra `dicom` is not installed."""
    needed = "jpeg_ls" if syntax in JPEG_LS else "openjpeg" if syntax in JPEG_2000 else None
    return needed is not None and find_spec(needed) is None
