"""Compressed pixels that end too early, whatever mark stands behind them."""

import io

import numpy as np
import pytest
from PIL import Image
from pydicom.encaps import encapsulate

from medseg_runtime import ImageError
from medseg_runtime.readers.image import read_image

BASELINE, EXTENDED, LOSSLESS_2000, LOSSY_2000 = (f"1.2.840.10008.1.2.4.{last}" for last in (50, 51, 90, 91))
END = b"\xff\xd9"
Y, X = np.mgrid[:128, :128]
GREY = (100 + 80 * np.sin(X / 9) + 40 * np.cos(Y / 7) + np.random.default_rng(0).normal(0, 8, X.shape)).clip(0, 255)
JPEG = ("JPEG", {"quality": 90})
KINDS = {
    "baseline": (BASELINE, *JPEG, False),
    "color": (BASELINE, *JPEG, True),
    "extended": (EXTENDED, *JPEG, False),
    "JPEG 2000": (LOSSLESS_2000, "JPEG2000", {"no_jp2": True}, False),
}


@pytest.fixture
def written(changed, tmp_path):
    def write(content, syntax, color):
        depth = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "PixelRepresentation": 0}
        colors = {"SamplesPerPixel": 3, "PhotometricInterpretation": "YBR_FULL_422", "PlanarConfiguration": 0}
        dataset = changed("CT_small.dcm", Rows=128, Columns=128, **depth, **(colors if color else {}))
        dataset.PixelData = encapsulate([content])
        dataset["PixelData"].is_undefined_length = True
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.save_as(tmp_path / "in.dcm", enforce_file_format=True)
        return tmp_path / "in.dcm"

    return write


@pytest.mark.parametrize(("syntax", "kind", "options", "color"), KINDS.values(), ids=KINDS)
def test_half_a_picture_is_refused_whole_ones_are_read(syntax, kind, options, color, written):
    grey = GREY.astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(np.stack([grey, grey[::-1], grey.T], -1) if color else grey).save(buffer, kind, **options)
    content = buffer.getvalue()
    assert read_image(written(content, syntax, color)).pixels.shape[:2] == (128, 128)
    for share in (0.3, 0.5, 0.8, 0.95):
        for behind in (b"", END, bytes(100)):
            with pytest.raises(ImageError):
                read_image(written(content[: int(len(content) * share)] + behind, syntax, color))


def test_a_lossy_jpeg_2000_without_its_end_is_warned_of(written):
    """Its decoders take zeros for data that add nothing."""
    buffer = io.BytesIO()
    options = {"no_jp2": True, "irreversible": True, "quality_mode": "rates", "quality_layers": [8]}
    Image.fromarray(GREY.astype(np.uint8)).save(buffer, "JPEG2000", **options)
    content = buffer.getvalue()
    assert not any("its end" in warning for warning in read_image(written(content, LOSSY_2000, color=False)).warnings)
    zeroed = content[: len(content) // 2].ljust(len(content), b"\0")
    image = read_image(written(zeroed, LOSSY_2000, color=False))
    assert any("lacks the mark of its end" in warning for warning in image.warnings)
