"""Mutated files: the readers give an image, a model, or one of our errors; no other exception, warning, crash or hang.

CI mutates for about a minute; `make fuzz` goes on for longer.
"""

import hashlib
import io
import itertools
import json
import warnings

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.data import get_testdata_file

from medseg_runtime import MedsegError
from medseg_runtime.model.bundle import Bundle
from medseg_runtime.readers.clip import read_clip
from medseg_runtime.readers.image import is_dicom, read_image
from medseg_runtime.testing import toy_manifest

MARKER = b"MARKER^PATIENT"
RNG = np.random.default_rng(0)
SMOOTH = np.add.outer(np.arange(24), 3 * np.arange(30)).astype(np.uint8)
NOISE = RNG.integers(0, 255, (24, 30, 3), np.uint8)
DICOM = (
    "CT_small.dcm",
    "MR_small.dcm",
    "MR_small_RLE.dcm",
    "MR_small_bigendian.dcm",
    "MR_small_implicit.dcm",
    "SC_rgb_jpeg_dcmtk.dcm",
    "SC_rgb_small_odd.dcm",
    "JPEG2000.dcm",
    "liver_1frame.dcm",
    "test-SR.dcm",
    "rtplan.dcm",
    "image_dfl.dcm",
    "emri_small.dcm",
    "examples_ybr_color.dcm",
)


def encoded(values, kind, mode=None, **options):
    buffer = io.BytesIO()
    picture = Image.fromarray(values)
    (picture.convert(mode) if mode else picture).save(buffer, kind, **options)
    return buffer.getvalue()


def rasters():
    yield encoded(SMOOTH, "PNG")
    yield encoded(NOISE, "PNG")
    yield encoded(NOISE, "PNG", "P")
    yield encoded(NOISE, "PNG", "RGBA")
    yield encoded(SMOOTH.astype(np.uint16) * 99, "PNG")
    yield encoded(SMOOTH > 40, "PNG")
    for mode in ("L", "RGB", "CMYK"):
        yield encoded(NOISE, "JPEG", mode)
    yield encoded(NOISE, "JPEG", progressive=True)
    for compression in (None, "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        yield encoded(NOISE, "TIFF", compression=compression)
    yield encoded(SMOOTH > 40, "TIFF", compression="group4")
    yield encoded(SMOOTH / np.float32(3), "TIFF")


def dicoms():
    for name in DICOM:
        dataset = pydicom.dcmread(get_testdata_file(name, download=False))
        dataset.PatientName = MARKER.decode()
        buffer = io.BytesIO()
        dataset.save_as(buffer, enforce_file_format=True)
        yield buffer.getvalue()


def mutated(content, others, rng):
    """Return the file with one to four damages of the kinds that disks, networks and bad writers make."""
    broken = bytearray(content)
    for _ in range(rng.integers(1, 5)):
        at = int(rng.integers(0, max(len(broken), 1)))
        if rng.random() < 0.5:
            at = min(at, int(rng.integers(0, 1500)))  # headers are where it hurts
        size = int(rng.integers(1, 64))
        kind = rng.integers(8)
        if kind == 0:
            broken[at : at + 1] = bytes([broken[at] ^ 1 << rng.integers(8)]) if at < len(broken) else b"x"
        elif kind == 1:
            broken[at : at + 1] = bytes([rng.integers(256)])
        elif kind == 2:
            del broken[at : at + size]
        elif kind == 3:
            broken[at:at] = broken[at : at + size]
        elif kind == 4:
            number = int(rng.choice([0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF]))
            broken[at : at + 4] = number.to_bytes(4, str(rng.choice(["little", "big"])))
        elif kind == 5:
            other = others[rng.integers(len(others))]
            broken[at : at + size] = other[at : at + size]
        elif kind == 6:
            broken[at : at + size] = rng.bytes(size)
        elif rng.random() < 0.3:
            del broken[at:]
    return bytes(broken)


def survives(read, path, capsys):
    """Call a reader on a file; return its error, or None. Anything that is not ours fails the test."""
    problem = None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            read(path)
        except MedsegError as error:
            problem = error
    out, err = capsys.readouterr()
    assert (out, err) == ("", "")
    if problem is not None:
        assert problem.remedy.endswith(".")
        assert "\n" not in problem.remedy
        assert MARKER.decode() not in str(problem)
    return problem


def fuzz(sources, count, read, path, capsys):
    """Mutate the sources in turn; a failure's note says how to get the same file again."""
    refused = 0
    for number in range(count):
        rng = np.random.default_rng([number, len(sources)])
        path.write_bytes(mutated(sources[number % len(sources)], sources, rng))
        try:
            refused += survives(read, path, capsys) is not None
        except BaseException as error:
            error.add_note(f"mutation {number} of source {number % len(sources)}")
            raise
    assert 0 < refused < count  # else the mutations are too mild, or too wild


def sane(path):
    """Read an image; what still decodes is plausible."""
    pixels = read_image(path, 1 if is_dicom(path.read_bytes()) else None).pixels
    assert pixels.ndim in (2, 3)
    assert min(pixels.shape[:2]) >= 2
    assert np.isfinite(pixels).all()


@pytest.mark.timeout(3600)
def test_rasters(mutations, tmp_path, capsys):
    fuzz(list(rasters()), mutations, sane, tmp_path / "image", capsys)


@pytest.mark.timeout(3600)
def test_dicom(mutations, tmp_path, capsys):
    fuzz(list(dicoms()), mutations, sane, tmp_path / "image", capsys)


@pytest.mark.timeout(3600)
def test_videos(mutations, tmp_path, capsys, moving_nodule, write_video):
    kinds = {"a.mp4": {}, "a.avi": {"codec": "mjpeg", "pix_fmt": "yuvj420p"}, "a.webm": {"codec": "libvpx-vp9"}}
    videos = [write_video(tmp_path / name, moving_nodule(5), **kind) for name, kind in kinds.items()]
    sources = [video.read_bytes() for video in videos]

    def read(path):
        for image in read_clip(path):
            assert image.pixels.shape[:2] == read_clip(path).size

    fuzz(sources, min(mutations, 500), read, tmp_path / "video", capsys)


def bundle_files(folder):
    """A bundle whose graphs are empty."""
    content, empty = json.loads(toy_manifest().to_json()), b"\x08\x0a\x3a\x00"
    for graph in content["graphs"].values():
        (folder / graph["file"]).write_bytes(empty)
        graph["sha256"] = hashlib.sha256(empty).hexdigest()
    return json.dumps(content, indent=1).encode()


@pytest.mark.timeout(3600)
def test_bundles(mutations, tmp_path, capsys):
    manifest = bundle_files(tmp_path)
    fuzz([manifest], mutations, lambda path: Bundle.load(path.parent), tmp_path / "bundle.json", capsys)


# --- DICOM elements, one at a time: well-formed files that say odd things ----------------------------------------------

# fmt: off
ELEMENTS = (
    "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel",
    "PlanarConfiguration", "NumberOfFrames", "PhotometricInterpretation", "RescaleSlope", "RescaleIntercept",
    "WindowCenter", "WindowWidth", "PixelSpacing", "PixelPaddingValue", "ImageOrientationPatient",
    "ImagePositionPatient", "Modality", "BurnedInAnnotation", "SOPClassUID", "SpecificCharacterSet",
)
# fmt: on
VALUES = st.one_of(
    st.sampled_from(
        ["", "0", "-1", "1e308", "-1e308", "nan", "inf", "1\\2", "0\\0", "x", "MONOCHROME1", "YES", "é" * 9]
    ),
    st.integers(-(2**31), 2**32 - 1),
    st.floats(allow_nan=True).map(lambda value: f"{value:.9g}"[:16]),
)
CHANGES = st.dictionaries(st.sampled_from(ELEMENTS), st.none() | VALUES, min_size=1, max_size=4)
SMALL = ("CT_small.dcm", "MR_small_RLE.dcm", "SC_rgb_small_odd.dcm")


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(SMALL), CHANGES)
def test_odd_elements(tmp_path, capsys, name, changes):
    path = tmp_path / "image"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = pydicom.dcmread(get_testdata_file(name, download=False))
        dataset.PatientName = MARKER.decode()
        for keyword, value in changes.items():
            try:
                if value is None:
                    dataset.pop(keyword, None)
                else:
                    setattr(dataset, keyword, value)
            except (ValueError, TypeError, OverflowError):
                continue  # pydicom itself would not write it
        buffer = io.BytesIO()
        try:
            dataset.save_as(buffer, enforce_file_format=True)
        except Exception:  # noqa: BLE001 - nor this
            return
    path.write_bytes(buffer.getvalue())
    survives(sane, path, capsys)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.binary(max_size=400),
    st.sampled_from([b"", bytes(128) + b"DICM", b"\x89PNG\r\n\x1a\n", b"II*\0", b"\xff\xd8\xff"]),
)
def test_noise_behind_a_magic_number(tmp_path, capsys, noise, magic):
    path = tmp_path / "image"
    path.write_bytes(magic + noise)
    survives(sane, path, capsys)


def test_the_mutations_differ():
    source = next(rasters())
    files = {mutated(source, [source], np.random.default_rng([number, 1])) for number in range(100)}
    assert len(files) > 80
    assert len(list(itertools.chain(rasters(), dicoms()))) == 31
