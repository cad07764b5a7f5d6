"""What Pillow decodes, held against independent readers and writers: tifffile for TIFF, pypng for PNG, and the arrays themselves."""

import io
import itertools
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from medseg_runtime import ImageError
from medseg_runtime.machine.memory import DECODING_BYTES
from medseg_runtime.readers.raster.image import decode, read_raster

tifffile = pytest.importorskip("tifffile")
pytest.importorskip("imagecodecs", reason="tifffile writes LZW with it")
HEIGHT, WIDTH = 37, 53
RNG = np.random.default_rng(0)
DECODED = {"u1": (1, 2, 3, 4), "i1": (1,), "u2": (1, 3, 4), "i2": (1,), "u4": (1,), "i4": (1,), "f4": (1,)}
"""The numbers of channels that are decoded for each type. Everything else is refused."""


def pixels(kind, channels):
    """Random values of a type; the alpha of two and four channels is opaque."""
    dtype = np.dtype(kind)
    shape = (HEIGHT, WIDTH, channels) if channels > 1 else (HEIGHT, WIDTH)
    if dtype.kind == "f":
        values, opaque = RNG.random(shape).astype(dtype), 1.0
    else:
        ends = np.iinfo(dtype)
        values, opaque = RNG.integers(ends.min, ends.max, shape, dtype, endpoint=True), ends.max
    if channels in (2, 4):
        values[..., -1] = opaque
    return values


def tiff(values, *, planar=False, **options):
    channels = values.shape[2] if values.ndim == 3 else 1
    if channels > 1:
        options["planarconfig"] = "separate" if planar else "contig"
    if channels in (2, 4):
        options["extrasamples"] = ["unassalpha"]
    stored = np.moveaxis(values, -1, 0) if planar else values
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, stored, photometric="rgb" if channels > 2 else "minisblack", **options)
    back = tifffile.imread(io.BytesIO(buffer.getvalue()))
    np.testing.assert_array_equal(np.moveaxis(back, 0, -1) if planar else back, values)
    return buffer.getvalue()


def without_alpha(values):
    return (
        values
        if values.ndim == 2 or values.shape[2] == 3
        else values[..., 0]
        if values.shape[2] == 2
        else values[..., :3]
    )


@pytest.mark.parametrize("tile", [None, (16, 16)], ids=["strips", "tiles"])
@pytest.mark.parametrize("compression", [None, "lzw", "zlib", "packbits"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("kind", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "f2", "f4", "f8"])
def test_a_tiff_gives_its_values_or_is_refused(kind, byteorder, compression, tile):
    for channels, planar, predictor in itertools.product((1, 2, 3, 4), (False, True), (False, True)):
        if (planar and channels == 1) or (predictor and (compression in (None, "packbits") or kind == "u8")):
            continue
        values = pixels(kind, channels)
        content = tiff(
            values, planar=planar, byteorder=byteorder, compression=compression, tile=tile, predictor=predictor or None
        )
        accepted = channels in DECODED.get(kind, ()) and not (planar and (kind, channels) not in {("u1", 3), ("u1", 4)})
        if not accepted or (kind == "u4" and byteorder == ">"):
            with pytest.raises(ImageError, match=r"separate planes|number or type"):
                read_raster(content, "")
        else:
            found = read_raster(content, "").pixels
            np.testing.assert_array_equal(found, without_alpha(values), err_msg=f"{channels=} {planar=} {predictor=}")


@pytest.mark.parametrize("interlace", [False, True])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_png_gives_its_values(channels, bits, interlace):
    png = pytest.importorskip("png")
    values = pixels(f"u{bits // 8}", channels)
    writer = png.Writer(
        WIDTH, HEIGHT, greyscale=channels < 3, alpha=channels in (2, 4), bitdepth=bits, interlace=interlace
    )
    buffer = io.BytesIO()
    writer.write(buffer, values.reshape(HEIGHT, -1).tolist())
    width, height, rows, _ = png.Reader(bytes=buffer.getvalue()).read()
    np.testing.assert_array_equal(np.array([list(row) for row in rows]).reshape(values.shape), values)
    assert (width, height) == (WIDTH, HEIGHT)
    found = read_raster(buffer.getvalue(), "")
    np.testing.assert_array_equal(found.pixels, without_alpha(values))
    assert not found.warnings


@pytest.mark.parametrize("bits", [8, 16])
def test_transparent_pixels_are_black_at_every_depth(bits):
    png = pytest.importorskip("png")
    values = pixels(f"u{bits // 8}", 4)
    values[:5, :, 3] = 0
    buffer = io.BytesIO()
    png.Writer(WIDTH, HEIGHT, greyscale=False, alpha=True, bitdepth=bits).write(
        buffer, values.reshape(HEIGHT, -1).tolist()
    )
    found = read_raster(buffer.getvalue(), "")
    assert not found.pixels[:5].any()
    np.testing.assert_array_equal(found.pixels[5:], values[5:, :, :3])
    assert "composited on black" in found.warnings[0]


@pytest.mark.parametrize("kind", ["u1", "u2"])
def test_compositing_takes_no_more_memory_than_was_checked_before_decoding(kind):
    side = 800
    values = RNG.integers(0, np.iinfo(kind).max, (side, side, 4), kind, endpoint=True)
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, photometric="rgb", extrasamples=["unassalpha"])
    tracemalloc.start()
    try:
        found = read_raster(buffer.getvalue(), "")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < DECODING_BYTES * side * side
    highest = np.iinfo(kind).max
    products = values[:, :, :3].astype(np.uint64) * values[:, :, 3:]
    np.testing.assert_array_equal(found.pixels, (2 * products + highest) // (2 * highest))


def test_colors_of_16_bits_that_are_multiplied_by_alpha_are_those_on_black():
    values = pixels("u2", 4)
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, photometric="rgb", extrasamples=["assocalpha"])
    np.testing.assert_array_equal(read_raster(buffer.getvalue(), "").pixels, values[..., :3])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_colors_of_16_bits_stay_in_the_stored_grid(orientation):
    values = pixels("u2", 3)
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, photometric="rgb", extratags=[(274, "H", 1, orientation, True)])
    raster = decode(buffer.getvalue())
    assert raster.orientation == orientation
    np.testing.assert_array_equal(raster.values, values)


@pytest.mark.parametrize("kind", ["u1", "u2"])
def test_equal_channels_of_16_bits_are_a_grey_picture(kind):
    grey = pixels(kind, 1)
    found = read_raster(tiff(np.stack([grey] * 3, axis=-1)), "").pixels
    np.testing.assert_array_equal(found, grey if kind == "u2" else np.stack([grey] * 3, axis=-1))


def test_pages_are_refused():
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        for _ in range(2):
            writer.write(pixels("u1", 1), contiguous=False)
    with pytest.raises(ImageError, match="several images"):
        read_raster(buffer.getvalue(), "")


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_a_bmp_gives_what_it_shows(mode):
    picture = Image.fromarray(pixels("u1", 3)).convert(mode)
    buffer = io.BytesIO()
    picture.save(buffer, "BMP")
    found = read_raster(buffer.getvalue(), "")
    np.testing.assert_array_equal(found.pixels, np.asarray(picture.convert("L" if mode in "1L" else "RGB")))
    assert found.kind == "BMP"


@pytest.mark.parametrize("tile", [None, (16, 16)], ids=["strips", "tiles"])
def test_a_tiff_whose_strips_do_not_cover_the_picture_is_refused(tile):
    """Pillow leaves the rest black, in silence."""
    content = bytearray(tiff(pixels("u2", 1), tile=tile, byteorder="<"))
    height = content.index((257).to_bytes(2, "little") + (4).to_bytes(2, "little"))  # the tag ImageLength
    content[height + 8 : height + 12] = (5 * HEIGHT).to_bytes(4, "little")
    with pytest.raises(ImageError, match=r"lacks a part of its picture|cut short"):
        read_raster(bytes(content), "")


@pytest.mark.parametrize(("photometric", "dtype"), [("rgb", np.uint8), ("rgb", np.uint16), ("minisblack", np.uint8)])
def test_a_channel_that_is_neither_color_nor_opacity_is_warned_of(photometric, dtype):
    """Pillow drops it in silence; grey of 16 bits with a further channel is refused."""
    colors = 3 if photometric == "rgb" else 1
    values = np.random.default_rng(0).integers(0, 256, (20, 30, colors + 1), np.uint8).astype(dtype)
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, photometric=photometric, planarconfig="contig", extrasamples=["unspecified"])
    found = read_raster(buffer.getvalue(), "")
    np.testing.assert_array_equal(found.pixels, values[:, :, :colors].squeeze())
    assert found.warnings == ("the TIFF has a channel that is neither color nor opacity, and it was not read",)
