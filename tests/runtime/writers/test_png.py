"""PNG files of our own: Pillow, whose decoder is another's, reads back what was written."""

import io

import numpy as np
import pytest
from PIL import Image

from medseg_runtime.writers.png import png


@pytest.mark.parametrize("shape", [(1, 1), (1, 1, 3), (7, 300), (300, 7, 3), (64, 64, 3)])
@pytest.mark.parametrize("highest", [0, 1, 255])
def test_pillow_reads_what_was_written(shape, highest):
    pixels = np.random.default_rng(0).integers(0, highest, shape, np.uint8, endpoint=True)
    picture = Image.open(io.BytesIO(png(pixels)))
    assert picture.format == "PNG"
    assert picture.mode == ("L" if len(shape) == 2 else "RGB")
    picture.verify()  # every checksum
    np.testing.assert_array_equal(Image.open(io.BytesIO(png(pixels))), pixels)


def test_an_array_with_gaps_is_written_as_it_looks():
    pixels = np.random.default_rng(0).integers(0, 255, (9, 12, 3), np.uint8)
    for part in (pixels[::2, ::3], pixels[..., 1], pixels.transpose(1, 0, 2)):
        np.testing.assert_array_equal(Image.open(io.BytesIO(png(part))), part)


def test_a_mask_is_small():
    mask = np.zeros((512, 512), np.uint8)
    mask[200:300, 220:280] = 255
    assert len(png(mask)) < 3000
