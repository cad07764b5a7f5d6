"""JPEG files that lack a part of their picture, and those that are coded in a way that is not decoded here."""

import io
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from medseg_runtime import ImageError
from medseg_runtime.readers.raster.image import read_raster
from medseg_runtime.readers.raster.jpeg import read_coding

Y, X = np.mgrid[:120, :200]
PICTURE = np.stack([(3 * X + 2 * Y) % 256, X * Y // 50 % 256, Y], axis=-1).astype(np.uint8)
END = b"\xff\xd9"
CODINGS = {
    "baseline": {},
    "optimised": {"optimize": True},
    "progressive": {"progressive": True},
    "restart at each block": {"restart_marker_blocks": 1},
    "restart at each row": {"restart_marker_rows": 1},
    "progressive with restarts": {"progressive": True, "restart_marker_rows": 2},
    "full color": {"subsampling": 0},
    "of low quality": {"quality": 5},
}


def jpeg(mode="RGB", **options):
    buffer = io.BytesIO()
    Image.fromarray(PICTURE).convert(mode).save(buffer, "JPEG", **options)
    return buffer.getvalue()


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("coding", CODINGS)
def test_a_whole_jpeg_is_read_as_pillow_reads_it(coding, mode):
    content = jpeg(mode, **CODINGS[coding])
    source = read_raster(content, "")
    expected = Image.open(io.BytesIO(content)).convert("L" if mode == "L" else "RGB")
    np.testing.assert_array_equal(source.pixels, np.asarray(expected))
    assert not source.warnings


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("share", [0.5, 0.6, 0.8, 0.97])
@pytest.mark.parametrize("coding", CODINGS)
def test_a_jpeg_that_ends_too_early_is_refused(coding, share, mode):
    """The marker of the end is there, so libjpeg fills the rest with grey, and Pillow mostly says nothing."""
    content = jpeg(mode, **CODINGS[coding])
    cut = content[: int(len(content) * share)].rstrip(b"\xff") + END
    with pytest.raises(ImageError, match=r"lacks a (part of its picture|whole channel)|cut short"):
        read_raster(cut, "")


def test_a_jpeg_that_lost_data_in_the_middle_is_refused():
    content = jpeg(restart_marker_rows=1)
    ends = read_coding(content).scan_ends
    with pytest.raises(ImageError, match="lacks a part"):
        read_raster(content[: ends[2] - 40] + content[ends[2] :], "")
    with pytest.raises(ImageError, match="lacks a part"):
        read_raster(content[: ends[2]] + content[ends[3] :], "")


def test_a_jpeg_without_its_last_scans_is_warned_of():
    content = jpeg("L", progressive=True)
    last = content.rindex(b"\xff\xda")
    source = read_raster(content[:last] + END, "")
    assert source.warnings == ("the JPEG ends before its last scan, and lacks fine detail",)


@pytest.mark.parametrize("coding", ["baseline", "progressive"])
def test_a_small_file_that_claims_many_pixels_is_refused_before_they_are_decoded(coding, monkeypatch):
    content = bytearray(jpeg("L", **CODINGS[coding]))
    frame = content.index(b"\xff\xc0" if coding == "baseline" else b"\xff\xc2")
    content[frame + 5 : frame + 9] = (9000).to_bytes(2) * 2
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("it was opened"))
    with pytest.raises(ImageError, match="lacks a part"):
        read_raster(bytes(content), "")


def test_bytes_behind_the_end_do_not_matter():
    assert not read_raster(jpeg() + b"\xff\xda of the camera's maker" * 9, "").warnings


@pytest.mark.parametrize(
    ("offset", "value", "says"),
    [(4, 12, "has 12 bits a channel"), (1, 0xC3, "JPEG Lossless"), (1, 0xF7, "JPEG-LS")],
    ids=["12 bits", "lossless", "JPEG-LS"],
)
def test_a_coding_that_is_not_decoded_is_named(offset, value, says):
    content = bytearray(jpeg())
    content[content.index(b"\xff\xc0") + offset] = value  # in the header of the frame
    with pytest.raises(ImageError, match=f"{says}.*not decoded here"):
        read_raster(bytes(content), "")


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg, the judge, is not installed")
def test_ffmpeg_finds_the_same_files_cut_short(tmp_path):
    whole, cut = jpeg("L"), jpeg("L")[: len(jpeg("L")) // 2] + END
    for content, complains in ((whole, False), (cut, True)):
        (tmp_path / "a.jpg").write_bytes(content)
        said = subprocess.run(
            ["ffmpeg", "-v", "error", "-i", tmp_path / "a.jpg", "-f", "null", "-"], capture_output=True, check=False
        )
        assert bool(said.stderr) == complains
