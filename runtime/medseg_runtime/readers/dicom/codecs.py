"""Pixels that cannot be decoded here: the name of their coding, and what helps."""

from __future__ import annotations

from importlib.util import find_spec

from pydicom.uid import UID

from medseg_runtime.errors import ImageError
from medseg_runtime.readers.dicom.codestream import Codestream
from medseg_runtime.readers.dicom.guard import DAMAGED, EXTRA

_SYNTAX = "1.2.840.10008.1.2."
_JPEG = f"{_SYNTAX}4."
LOSSLESS = frozenset({f"{_JPEG}57", f"{_JPEG}70"})
JPEG_LS = frozenset({f"{_JPEG}80", f"{_JPEG}81"})
JPEG_2000 = frozenset({f"{_JPEG}90", f"{_JPEG}91"})
HIGH_THROUGHPUT = frozenset({f"{_JPEG}201", f"{_JPEG}202", f"{_JPEG}203"})
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
SAME_FILE = "If that fails too, the file is damaged: export it again."
DECOMPRESS = "Decompress it first: `{} in.dcm out.dcm`. " + SAME_FILE
LIBJPEG = "`pip install pylibjpeg pylibjpeg-libjpeg`, the second of which is GPL-3"


def is_video(syntax: UID) -> bool:
    """Tell whether the pixels are a video stream: MPEG-2, H.264 or HEVC (PS3.5, A.4.5 to A.4.7), or one of SMPTE ST 2110."""
    last = str(syntax).removeprefix(_JPEG).partition(".")[0]
    return (last.isdigit() and 100 <= int(last) <= 108) or str(syntax).startswith(f"{_SYNTAX}7.")


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
            "It is a video: take it out with `gdcmraw -i in.dcm -o clip.mpg`, save a frame as PNG with "
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
        return DECOMPRESS.format("dcmdjpls")
    if syntax in JPEG_2000 | HIGH_THROUGHPUT:
        return DECOMPRESS.format("gdcmconv --raw")
    if syntax in LOSSLESS or (stream is not None and stream.coding.startswith("JPEG")):
        return f"Decompress it with `dcmdjpeg in.dcm out.dcm`, or install a decoder: {LIBJPEG}. {SAME_FILE}"
    return "Export it from its archive as Explicit VR Little Endian. " + DAMAGED


def _lacks_extra(syntax: UID) -> bool:
    """Tell whether the decoder of the extra `dicom` is not installed."""
    needed = "jpeg_ls" if syntax in JPEG_LS else "openjpeg" if syntax in JPEG_2000 | HIGH_THROUGHPUT else None
    return needed is not None and find_spec(needed) is None
