"""Every odd raster file either gives its stored pixels, or one ImageError."""

import contextlib
import gzip
import io
import os
import struct
import subprocess
import sys
import threading
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from medseg_runtime import ImageError
from medseg_runtime.readers.image import images_in, read_image
from medseg_runtime.readers.series import read_series
from medseg_runtime.readers.silence import warnings_muted
from medseg_runtime.readers.source import MAX_PIXELS, SourceImage

GREY = np.arange(7 * 11, dtype=np.uint8).reshape(7, 11) * 3
RGB = np.stack([GREY, 255 - GREY, GREY // 2], axis=-1)
WIDE = GREY.astype(np.uint16) * 250 + 7


def encoded(picture, kind, **options):
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def png(width, height, *, depth=8, color=0, rows=b""):
    """A PNG written by hand, for headers that Pillow would not write."""

    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.fixture
def read(tmp_path):
    def write_and_read(content, name="image.png"):
        path = tmp_path / name
        path.write_bytes(content)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return read_image(path)

    return write_and_read


def with_alpha(alpha):
    return Image.fromarray(np.dstack([RGB, alpha]))


HALF = np.where(np.arange(11) < 5, 0, 255).astype(np.uint8) * np.ones((7, 1), np.uint8)
PALETTE = Image.fromarray(RGB).quantize(16)
INDEXED = Image.fromarray((GREY % 4).astype(np.uint8))
INDEXED.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120])
COLORS = np.array([[10, 20, 30], [40, 50, 60], [70, 80, 90], [100, 110, 120]], np.uint8)

VALID = {
    "grey png": (encoded(Image.fromarray(GREY), "PNG"), GREY),
    "rgb png": (encoded(Image.fromarray(RGB), "PNG"), RGB),
    "16-bit png": (encoded(Image.fromarray(WIDE), "PNG"), WIDE),
    "1-bit png": (encoded(Image.fromarray(GREY > 100), "PNG"), np.where(GREY > 100, 255, 0)),
    "palette png": (encoded(INDEXED, "PNG"), COLORS[GREY % 4]),
    "palette with a transparent entry": (
        encoded(INDEXED, "PNG", transparency=2),
        np.where((GREY % 4 == 2)[..., None], 0, COLORS[GREY % 4]),
    ),
    "opaque rgba": (encoded(with_alpha(np.full_like(GREY, 255)), "PNG"), RGB),
    "rgba on black": (encoded(with_alpha(HALF), "PNG"), np.where(HALF[..., None] > 0, RGB, 0)),
    "la on black": (
        encoded(Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(HALF)]), "PNG"),
        np.where(HALF > 0, GREY, 0),
    ),
    "grey tiff": (encoded(Image.fromarray(GREY), "TIFF"), GREY),
    "16-bit tiff": (encoded(Image.fromarray(WIDE), "TIFF", compression="tiff_lzw"), WIDE),
    "32-bit tiff": (encoded(Image.fromarray(GREY.astype(np.int32) - 1000), "TIFF"), GREY.astype(np.int32) - 1000),
    "float tiff": (encoded(Image.fromarray(GREY / np.float32(7)), "TIFF"), GREY / np.float32(7)),
    "white is zero": (encoded(Image.fromarray(WIDE), "TIFF", tiffinfo={262: 0}), 65535 - WIDE),
    "cmyk tiff": (
        encoded(Image.fromarray(RGB).convert("CMYK"), "TIFF"),
        np.asarray(Image.fromarray(RGB).convert("CMYK").convert("RGB")),
    ),
}


@pytest.mark.parametrize("name", VALID)
def test_stored_pixels_come_back(name, read):
    content, expected = VALID[name]
    source = read(content)
    np.testing.assert_array_equal(source.pixels, expected)
    assert bool(source.warnings) == any(word in name for word in ("on black", "transparent"))


@pytest.mark.parametrize("name", ["misleading.jpg", "misleading.dcm", "none", "Größe ✓.tif", "x" * 251 + ".png"])
def test_the_name_does_not_matter(name, read):
    source = read(VALID["rgb png"][0], name)
    assert source.kind == "PNG"
    np.testing.assert_array_equal(source.pixels, RGB)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_jpeg(mode, read):
    smooth = np.add.outer(np.arange(32), 2 * np.arange(40)).astype(np.uint8)
    source = read(encoded(Image.fromarray(smooth).convert(mode), "JPEG", quality=95))
    assert source.pixels.shape == ((32, 40) if mode == "L" else (32, 40, 3))
    grey = source.pixels if mode == "L" else source.pixels[..., 1]
    assert np.abs(grey.astype(int) - smooth).max() < 12


def test_colors_of_16_bits_keep_their_levels(read):
    colors = RGB.astype(">u2") * 250 + 7
    source = read(png(11, 7, depth=16, color=2, rows=b"".join(b"\0" + row.tobytes() for row in colors.astype(">u2"))))
    np.testing.assert_array_equal(source.pixels, colors)
    assert not source.warnings


def test_no_other_format_is_tried_whatever_a_file_is_called(read):
    for kind in ("EPS", "GIF", "WEBP", "PPM", "ICNS"):
        with pytest.raises(
            ImageError, match=r"is a (GIF|WebP image), which is not read|not an image in one of the supported formats"
        ):
            read(encoded(Image.fromarray(np.resize(RGB, (16, 16, 3))), kind), "image.png")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_leaves_the_stored_grid(kind, orientation, read):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"tiffinfo": {274: orientation}} if kind == "TIFF" else {"exif": exif}
    upright = read(encoded(Image.fromarray(GREY), kind))
    turned = read(encoded(Image.fromarray(GREY), kind, **options))
    np.testing.assert_array_equal(turned.pixels, upright.pixels)
    assert bool(turned.warnings) == (orientation != 1)


PNG = VALID["rgb png"][0]


def test_the_limit_is_between_the_two_tried_here():
    assert 9459 * 9459 <= MAX_PIXELS < 9460 * 9460


def test_any_flipped_byte_gives_an_image_or_an_image_error(read):
    rng = np.random.default_rng(0)
    for content, _ in list(VALID.values()):
        for _ in range(25):
            broken = bytearray(content)
            for position in rng.integers(0, len(broken), 3):
                broken[position] ^= 1 << rng.integers(8)
            try:
                source = read(bytes(broken))
            except ImageError:
                continue
            assert source.pixels.ndim in (2, 3)


def test_files_that_are_none(tmp_path):
    os.mkfifo(tmp_path / "fifo.png")
    for path, problem in (
        (tmp_path / "missing.png", "No such file"),
        (tmp_path, "folder"),
        (tmp_path / "fifo.png", "pipe"),
        (tmp_path / ("x" * 300), "too long"),
        (tmp_path / "null\0byte", "null"),
    ):
        with pytest.raises(ImageError, match=problem):
            read_image(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    path.chmod(0)
    with pytest.raises(ImageError, match="Permission denied"):
        read_image(path)


def test_pillows_settings_are_left_alone(read):
    before = Image.MAX_IMAGE_PIXELS, list(warnings.filters)
    for content in (PNG, png(20000, 20000)):
        with contextlib.suppress(ImageError):
            read(content)
    assert (Image.MAX_IMAGE_PIXELS, list(warnings.filters)) == before


def test_a_folders_images_are_those_by_suffix_and_dicom_by_content(tmp_path):
    for name in ("b.PNG", "a.tif", "notes.txt", ".hidden.png"):
        (tmp_path / name).write_bytes(b"x")
    for name in ("IM0001", "DICOMDIR"):  # the latter is a medium's directory
        (tmp_path / name).write_bytes(bytes(128) + b"DICM")
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "fifo.png")
    found = images_in(tmp_path)
    assert [path.name for path in found.paths] == ["IM0001", "a.tif", "b.PNG"]
    assert found.passed_over == {
        "other": ["fifo.png", "notes.txt"], "DICOMDIR": ["DICOMDIR"], "sub-folder": ["folder.png"], "hidden image": [".hidden.png"],
    }  # fmt: skip
    assert found.notes == (
        "passed over as no image: 1 DICOMDIR, 1 hidden image (.hidden.png), 2 other (fifo.png, notes.txt), 1 sub-folder",
    )
    with pytest.raises(ImageError, match="no image"):
        images_in(tmp_path / "folder.png")


def test_a_folders_images_are_those_that_a_person_would_look_for(tmp_path):
    begins = {
        "a.bmp": b"BM",
        "clip": b"\0\0\0\x18ftypisom",
        "packed.gz": gzip.compress(bytes(128) + b"DICM"),
        "unmarked": b"\x08\0\x05\0CS\x0a\0ISO_IR 100",
        "._b.png": b"\0\5\x16\7\0\2\0\0Mac OS X",
        ".DS_Store": b"\0\0\0\1Bud1",
    }
    for name, begin in begins.items():
        (tmp_path / name).write_bytes(begin)
    found = images_in(str(tmp_path))
    assert [path.name for path in found.paths] == ["a.bmp", "clip", "packed.gz", "unmarked"]
    assert not found.notes
    for path, problem in zip(
        found.paths[1:],
        ("this is a video.*read_clip", "compressed.*Unpack", "lacks its preamble.*dcmconv"),
        strict=True,
    ):
        with pytest.raises(ImageError, match=problem):
            read_image(path)


OTHERS = {
    "GIF": (b"GIF89a", "GIF"),
    "WebP": (b"RIFF\0\0\0\0WEBP", "WebP"),
    "JPEG 2000": (b"\0\0\0\x0cjP  \r\n", "JPEG 2000"),
    "JPEG XL": (b"\xff\x0a", "JPEG XL"),
    "HEIC": (b"\0\0\0\x1cftypheic", "HEIC"),
    "PDF": (b"%PDF-1.7", "PDF"),
    "HTML": (b"<!DOCTYPE html>", "HTML"),
    "Git LFS": (b"version https://git-lfs.github.com/", "git lfs pull"),
    "7z": (b"7z\xbc\xaf\x27\x1c", "Unpack"),
    "tar": (bytes(257) + b"ustar", "Unpack"),
    "gzip": (gzip.compress(b"text", mtime=0), "Unpack"),
}


@pytest.mark.parametrize(("begin", "said"), OTHERS.values(), ids=OTHERS)
def test_known_formats_that_are_not_read_are_named(begin, said):
    with pytest.raises(ImageError, match=said):
        read_image(begin + bytes(99))


def test_warnings_are_muted_in_the_thread_that_reads_alone():
    before, inside, outside = list(warnings.filters), threading.Event(), threading.Event()

    def read():
        with warnings_muted():
            warnings.warn("of a library", stacklevel=1)
            inside.set()
            outside.wait()

    thread = threading.Thread(target=read)
    thread.start()
    inside.wait()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        warnings.warn("of the caller", stacklevel=1)
        with warnings_muted():
            warnings.warn("of a library", stacklevel=1)
    outside.set()
    thread.join()
    assert [str(each.message) for each in seen] == ["of the caller"]
    with pytest.warns(UserWarning, match="of the caller"):
        warnings.warn("of the caller", stacklevel=1)
    with warnings_muted():
        pass
    assert warnings.filters == before


def test_bytes_with_a_sign_keep_it(tmp_path):
    values = np.array([[-5, 0, 100], [-128, 127, 1]], np.int8)
    Image.fromarray(values.view(np.uint8)).save(tmp_path / "a.tif", tiffinfo={339: 2})
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif").pixels, values)


def test_damaged_exif_does_not_make_the_picture_unreadable(tmp_path):
    picture = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8))
    picture.save(tmp_path / "a.png", exif=b"garbage")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png").pixels, np.asarray(picture))


@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 3)])
def test_an_array_is_an_image_without_a_file(shape):
    pixels = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)
    source = SourceImage.from_array(pixels)
    np.testing.assert_array_equal(source.pixels, pixels)
    assert (source.sha256, source.kind, source.spacing_mm, source.dicom) == ("", "array", None, None)


def test_an_array_that_is_no_image_is_refused():
    with pytest.raises(ImageError, match=r"shape \(3, 4, 2\) is not an image"):
        SourceImage.from_array(np.zeros((3, 4, 2), np.uint8))


def test_a_path_may_be_a_string(tmp_path):
    Image.fromarray(np.eye(4, dtype=np.uint8)).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(str(tmp_path / "a.png")).pixels, np.eye(4))
    with pytest.raises(ImageError, match="holds no DICOM image"):
        read_series(str(tmp_path))


def test_the_readers_are_imported_without_pydicom():
    code = "import sys, medseg_runtime.readers.image\nassert 'pydicom' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
