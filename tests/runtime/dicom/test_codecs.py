"""Pixels that no decoder here takes: named, with a remedy that works, and never called damaged."""

import io
import shutil
import subprocess
import sys

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.encaps import encapsulate, generate_frames

from medseg_runtime import ImageError
from medseg_runtime.readers.codestream import parse_codestream
from medseg_runtime.readers.image import read_image

KNOWN = "1.2.840.10008.1.2.4.201"  # of the same length as those that pydicom would not write


@pytest.fixture
def coded(changed, tmp_path):
    """coded(syntax, payload): a file of this transfer syntax."""

    def write(syntax, payload, **values):
        dataset = changed("CT_small.dcm", **values)
        dataset.PixelData = encapsulate([payload])
        dataset["PixelData"].is_undefined_length = True
        dataset.file_meta.TransferSyntaxUID = KNOWN
        path = tmp_path / "in.dcm"
        dataset.save_as(path, enforce_file_format=True)
        old, new = (f"{uid}{(24 - len(uid)) * chr(0)}".encode() for uid in (KNOWN, syntax))
        path.write_bytes(path.read_bytes().replace(old, new, 1))
        return path

    return write


def refusal(path):
    with pytest.raises(ImageError, match="cannot be decoded here") as caught:
        read_image(path)
    assert "damaged or cut short" not in caught.value.problem
    return caught.value


@pytest.mark.parametrize(
    ("syntax", "name"),
    [
        ("1.2.840.10008.1.2.4.100", "MPEG2"),
        ("1.2.840.10008.1.2.4.101", "MPEG2"),
        ("1.2.840.10008.1.2.4.102", "H.264"),
        ("1.2.840.10008.1.2.4.106", "H.264"),
        ("1.2.840.10008.1.2.4.107", "H.265"),
        ("1.2.840.10008.1.2.4.108", "H.265"),
    ],
)
def test_a_video_is_named(syntax, name, coded):
    error = refusal(coded(syntax, b"\0\0\0\1" + bytes(100), NumberOfFrames=300))
    assert name in error.problem
    assert "ffmpeg" in error.remedy
    assert "pip install" not in error.remedy


@pytest.mark.parametrize(
    ("syntax", "name", "remedy"),
    [
        ("1.2.840.10008.1.2.4.110", "JPEG XL", "djxl"),
        ("1.2.840.10008.1.2.4.111", "JPEG XL", "djxl"),
        ("1.2.840.10008.1.2.4.112", "JPEG XL", "djxl"),
        ("1.2.840.10008.1.2.4.94", "JPIP", "on a server"),
        ("1.2.840.10008.1.2.4.204", "JPIP", "on a server"),
        ("1.2.840.10008.1.2.4.92", "JPEG 2000 Part 2", "Explicit VR"),
        ("1.2.840.10008.1.2.8.1", "Deflated Image Frame", "Explicit VR"),
        ("1.2.840.10008.1.2.7.1", "ST 2110", "ffmpeg"),
        ("1.2.840.113619.5.99", "1.2.840.113619.5.99 is not known", "Explicit VR"),
    ],
)
def test_other_codings_are_named(syntax, name, remedy, coded):
    error = refusal(coded(syntax, bytes(100)))
    assert name in error.problem
    assert remedy in error.remedy


def test_pixels_on_a_server(changed, tmp_path):
    changed("CT_small.dcm", PixelData=None, PixelDataProviderURL="https://example.org/a").save_as(tmp_path / "a.dcm")
    with pytest.raises(ImageError, match="on a server") as caught:
        read_image(tmp_path / "a.dcm")
    assert "example.org" not in str(caught.value)


@pytest.mark.parametrize("name", ["JPGExtended.dcm", "JPEG-lossy.dcm"])
def test_jpeg_of_12_bits(name, sources):
    error = refusal(sources(name))
    assert "JPEG, 12 bits, 1 component" in error.problem
    assert "dcmdjpeg" in error.remedy


def test_jpeg_ls_that_the_decoder_does_not_take(sources, tmp_path):
    """A point transform, which is of the standard and not of CharLS; complete, so it is not called damaged."""
    pytest.importorskip("jpeg_ls")
    dataset = pydicom.dcmread(sources("MR_small_jpeg_ls_lossless.dcm"))
    frame = bytearray(next(generate_frames(dataset.PixelData, number_of_frames=1)))
    scan = frame.index(b"\xff\xda")
    frame[scan + 2 + int.from_bytes(frame[scan + 2 : scan + 4]) - 1] = 0x01
    dataset.PixelData = encapsulate([bytes(frame)])
    dataset.save_as(tmp_path / "a.dcm")
    error = refusal(tmp_path / "a.dcm")
    assert "JPEG-LS, 16 bits, 1 component" in error.problem
    assert "dcmdjpls" in error.remedy


@pytest.mark.parametrize("name", ["MR_small_jp2klossless.dcm", "SC_rgb_small_odd_jpeg.dcm"])
def test_a_picture_of_a_kind_that_is_decoded_is_damaged(name, sources, read):
    """It has its end, and its header is whole: what lies between is not."""
    if "jp2k" in name:
        pytest.importorskip("openjpeg")
    dataset = pydicom.dcmread(sources(name))
    frame = bytearray(next(generate_frames(dataset.PixelData, number_of_frames=1)))
    start = frame.index(b"\xff\xd9" if "jp2k" in name else b"\xff\xdb") - 2  # its data, or its quantization tables
    frame[60 if "jp2k" in name else start : -2] = bytes(40)
    dataset.PixelData = encapsulate([bytes(frame)])
    with pytest.raises(ImageError, match="damaged or cut short"):
        read(dataset)


def test_a_decoder_of_the_extra_that_is_not_installed(sources):
    program = (
        "import sys; sys.modules['jpeg_ls'] = None\n"
        "from medseg_runtime import ImageError, read_image\n"
        "try: read_image(sys.argv[1])\n"
        "except ImageError as error: print(error)"
    )
    path = sources("MR_small_jpeg_ls_lossless.dcm")
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=True)
    assert "cannot be decoded here (JPEG-LS Lossless" in done.stdout
    assert "medseglatdiff[dicom]" in done.stdout


REMEDIES = {
    "dcmdjpeg": ("JPGExtended.dcm", "JPEG-lossy.dcm", "JPEG-LL.dcm", "SC_rgb_jpeg_gdcm.dcm", "JPGLosslessP14SV1_1s_1f_8b.dcm"),
    "dcmdjpls": ("MR_small_jpeg_ls_lossless.dcm", "JPEGLSNearLossless_16.dcm"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("command", "name"), [(command, name) for command, names in REMEDIES.items() for name in names]
)
def test_the_remedies_work(command, name, sources, needs, tmp_path):
    subprocess.run([needs(command, "dcmtk"), sources(name), tmp_path / "out.dcm"], capture_output=True, check=True)
    assert read_image(tmp_path / "out.dcm").pixels.size


def test_the_remedy_for_a_video_works(coded, needs, tmp_path):
    needs("gdcmraw", "libgdcm-tools")
    needs("ffmpeg", "ffmpeg")
    make = "ffmpeg -loglevel error -f lavfi -i testsrc=d=1:s=128x128 -c:v mpeg2video -f mpeg a.mpg"
    subprocess.run(make.split(), cwd=tmp_path, check=True)
    error = refusal(coded("1.2.840.10008.1.2.4.100", (tmp_path / "a.mpg").read_bytes()))
    for command in error.remedy.split("`")[1::2]:
        subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True)
    assert read_image(tmp_path / "frame.png").pixels.shape == (128, 128, 3)


def test_the_remedy_for_jpeg_xl_works(coded, needs, tmp_path):
    needs("dcmdump", "dcmtk")
    if not (shutil.which("cjxl") and shutil.which("djxl")):
        pytest.skip("NOT JUDGED: cjxl and djxl are absent; as root: apt-get install libjxl-tools")
    Image.fromarray(np.arange(64 * 64).astype(np.uint8).reshape(64, 64)).save(tmp_path / "a.png")
    subprocess.run(["cjxl", "a.png", "a.jxl", "-d", "0"], cwd=tmp_path, capture_output=True, check=True)
    error = refusal(coded("1.2.840.10008.1.2.4.110", (tmp_path / "a.jxl").read_bytes(), Rows=64, Columns=64))
    for command in error.remedy.split("`")[1::2]:
        subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True)
    np.testing.assert_array_equal(read_image(tmp_path / "in.png").pixels, read_image(tmp_path / "a.png").pixels)


def test_a_size_that_the_header_does_not_state_is_found_before_decoding(sources, read):
    """A picture of 64x64 px that claims 40000x40000, for which a decoder asks for gigabytes."""
    dataset = pydicom.dcmread(sources("MR_small_jp2klossless.dcm"))
    frame = bytearray(next(generate_frames(dataset.PixelData, number_of_frames=1)))
    frame[8:16] = 2 * (40_000).to_bytes(4, "big")
    dataset.PixelData = encapsulate([bytes(frame)])
    with pytest.raises(ImageError, match="stated rows and columns"):
        read(dataset)


@pytest.mark.parametrize(
    ("kind", "options"),
    [("JPEG", {}), ("JPEG", {"progressive": True}), ("JPEG2000", {"no_jp2": True}), ("JPEG2000", {})],
)
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_codestream_says_what_it_is(kind, options, mode):
    buffer = io.BytesIO()
    Image.new(mode, (37, 21)).save(buffer, kind, **options)
    stream = parse_codestream(buffer.getvalue())
    assert (stream.width, stream.height, stream.components, stream.bits) == (37, 21, len(mode), 8)
    assert stream.complete
    assert not parse_codestream(buffer.getvalue()[:-40]).complete
    for end in range(40):
        parse_codestream(buffer.getvalue()[:end])
