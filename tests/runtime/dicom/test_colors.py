"""Colors of compressed pictures: what the picture says of itself decides, and nothing is converted twice. DCMTK judges."""

import io
import subprocess

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.encaps import encapsulate

from medseg_runtime import ImageError

BASELINE, JPEG_2000 = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.90"
COLORS = np.kron(
    np.array([[[200, 30, 30], [30, 200, 30]], [[30, 30, 200], [120, 130, 90]]]), np.ones((32, 32, 1))
).astype(np.uint8)
NEAR = 3
"""Mean difference that the loss of a JPEG may make here. YBR taken as RGB makes more than 80."""


def jpeg(transform=None, **options):
    """A YBR JPEG without a JFIF marker; with an Adobe marker if `transform` is given."""
    buffer = io.BytesIO()
    Image.fromarray(COLORS).save(buffer, "JPEG", quality=95, **options)
    content = buffer.getvalue()
    adobe = b"" if transform is None else b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0" + bytes([transform])
    return content[:2] + adobe + content[20:]


@pytest.fixture
def picture(changed):
    def build(content, photometric, syntax=BASELINE):
        dataset = changed(
            "SC_rgb.dcm", Rows=64, Columns=64, PhotometricInterpretation=photometric, PlanarConfiguration=0
        )
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.PixelData = encapsulate([content + b"\0" * (len(content) % 2)])
        dataset["PixelData"].is_undefined_length = True
        dataset["PixelData"].VR = "OB"
        return dataset

    return build


def difference(pixels):
    return np.abs(pixels.astype(int) - COLORS).mean()


@pytest.mark.parametrize("subsampling", [0, 2])
@pytest.mark.parametrize("photometric", ["YBR_FULL", "YBR_FULL_422"])
@pytest.mark.parametrize("transform", [None, 1])
def test_a_jpeg_is_converted_once(transform, photometric, subsampling, picture, read):
    """pydicom converts what Pillow has converted because of an Adobe marker."""
    assert difference(read(picture(jpeg(transform, subsampling=subsampling), photometric)).pixels) < NEAR


def test_dcmtk_sees_the_same_colors(picture, read, needs, tmp_path):
    program = needs("dcmj2pnm", "dcmtk")
    dataset = picture(jpeg(1), "YBR_FULL_422")
    dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    subprocess.run([program, "--write-png", tmp_path / "a.dcm", tmp_path / "a.png"], check=True)
    theirs = np.asarray(Image.open(tmp_path / "a.png").convert("RGB")).astype(int)
    assert np.abs(read(dataset).pixels - theirs).mean() < 1


def test_a_jpeg_that_cannot_be_rgb_is_refused_with_a_remedy_that_works(picture, read, needs, tmp_path):
    dataset = picture(jpeg(subsampling=2), "RGB")
    with pytest.raises(ImageError, match="dcmdjpeg --conv-lossy"):
        read(dataset)
    program = needs("dcmdjpeg", "dcmtk")
    dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    subprocess.run([program, "--conv-lossy", tmp_path / "a.dcm", tmp_path / "b.dcm"], check=True)
    assert difference(read(pydicom.dcmread(tmp_path / "b.dcm")).pixels) < NEAR


def test_a_jpeg_with_a_jfif_marker_is_ybr_whatever_the_header_says(picture, read):
    buffer = io.BytesIO()
    Image.fromarray(COLORS).save(buffer, "JPEG", quality=95)
    for photometric in ("RGB", "YBR_FULL_422"):
        assert difference(read(picture(buffer.getvalue(), photometric)).pixels) < NEAR


@pytest.mark.parametrize("photometric", ["RGB", "YBR_RCT", "YBR_ICT", "YBR_FULL"])
def test_a_transform_of_jpeg_2000_is_undone_once(photometric, picture, read):
    codecs = pytest.importorskip("imagecodecs")
    content = codecs.jpeg2k_encode(COLORS, codecformat="J2K", reversible=True, mct=True)
    np.testing.assert_array_equal(read(picture(content, photometric, JPEG_2000)).pixels, COLORS)


def test_a_retired_kind_of_colors_is_not_called_damaged(changed, read):
    dataset = changed("SC_rgb.dcm", PhotometricInterpretation="YBR_PARTIAL_422")
    dataset.PixelData = dataset.PixelData[: 2 * dataset.Rows * dataset.Columns]
    with pytest.raises(ImageError, match="cannot be converted to RGB here"):
        read(dataset)
