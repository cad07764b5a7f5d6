"""Geometry there and back, and intensities. Training and serving use the same functions."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from medseg_runtime.errors import ImageError, ParameterError
from medseg_runtime.model.preprocess import Box, InputRule, as_image, paste, place, to_network, to_seen

FIELDS = st.tuples(st.integers(1, 13), st.integers(1, 13))  # height, width; odd and even
SIZES = st.tuples(st.integers(2, 30), st.integers(2, 30))  # smaller and larger than the field


def rule(geometry, height, width, intensity="unit", channels=1):
    context = 2 * max(height, width) + 1 if geometry == "native" else 0
    return InputRule(
        channels=channels, height=height, width=width, geometry=geometry, intensity=intensity, context=context
    )


@st.composite
def regions(draw, size):
    """A region inside an image of (height, width), or none."""
    height, width = size
    if draw(st.booleans()):
        return None
    x, y = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    return Box(x=x, y=y, width=draw(st.integers(1, width - x)), height=draw(st.integers(1, height - y)))


CASES = SIZES.flatmap(lambda size: st.tuples(st.just(size), regions(size)))


def numbered(height, width):
    """Return an image whose pixels all differ and survive float32, in 1 ... 65535."""
    return (1 + np.arange(height * width, dtype=np.uint16)).reshape(height, width)


def to_image(maps, placement):
    """Network grid => image grid."""
    return paste(to_seen(maps, placement), placement)


def stored(field):
    """Network input of a `unit` rule => the integers that the image held."""
    return np.rint(field[0, 0].astype(np.float64) * 65535).astype(int)


# --- native: pixels are kept -------------------------------------------------------------------------------------------


@given(CASES, FIELDS)
def test_native_looks_at_the_middle_of_the_region(case, field):
    (height, width), region = case
    box = place(numbered(height, width), rule("native", *field), region).field
    assert (box.height, box.width) == field
    middle = region or Box(x=0, y=0, width=width, height=height)
    assert abs(box.x + field[1] / 2 - (middle.x + middle.width / 2)) <= 0.5
    assert abs(box.y + field[0] / 2 - (middle.y + middle.height / 2)) <= 0.5


@given(CASES, FIELDS)
def test_native_shows_the_pixels_themselves_and_repeats_the_edge_beyond(case, field):
    (height, width), region = case
    image = numbered(height, width)
    placement = place(image, rule("native", *field), region)
    seen = stored(to_network(image, rule("native", *field), placement))
    for row, column in np.ndindex(*field):
        y = min(max(placement.field.y + row, 0), height - 1)
        x = min(max(placement.field.x + column, 0), width - 1)
        assert seen[row, column] == image[y, x]


@given(CASES, FIELDS)
def test_native_brings_every_pixel_back_to_where_it_came_from(case, field):
    (height, width), region = case
    image = numbered(height, width)
    placement = place(image, rule("native", *field), region)
    maps = to_network(image, rule("native", *field), placement)[0]
    back = stored(to_image(maps, placement)[None])
    assert ((back == image) | (back == 0)).all()
    box = placement.field
    rows, columns = np.mgrid[:height, :width]
    inside = (box.y <= rows) & (rows < box.y + box.height) & (box.x <= columns) & (columns < box.x + box.width)
    assert ((back == image) == inside).all()


@given(CASES, FIELDS, st.data())
def test_a_mask_painted_in_the_network_lands_on_exactly_its_pixels(case, field, data):
    (height, width), region = case
    placement = place(numbered(height, width), rule("native", *field), region)
    row, column = data.draw(st.integers(0, field[0] - 1)), data.draw(st.integers(0, field[1] - 1))
    painted = np.zeros((2, *field), np.float32)
    painted[1, row, column] = 1.0  # the thinnest there is
    back = to_image(painted, placement)
    y, x = placement.field.y + row, placement.field.x + column
    expected = np.zeros((2, height, width))
    if 0 <= y < height and 0 <= x < width:
        expected[1, y, x] = 1.0
    assert back.dtype == np.float32
    assert (back == expected).all()


def test_native_by_hand():
    # A 3x2 field round the region x 4..5, y 0..0 of an 8x5 image: the center is (5, 0.5), so x 4..6 or 3..5 and y 0..1 or -1..0.
    placement = place(numbered(5, 8), rule("native", 2, 3), Box(x=4, y=0, width=2, height=1))
    assert placement.field == Box(x=4, y=0, width=3, height=2)
    back = to_image(np.ones((1, 2, 3), np.float32), placement)
    assert back[0].tolist() == [[0, 0, 0, 0, 1, 1, 1, 0]] * 2 + [[0] * 8] * 3


def test_native_takes_its_intensities_from_the_context():
    # A ramp of 0 ... 99 with an outlier beyond the context: a 4 px field in 20 px of context, columns 40 to 59.
    image = np.tile(np.arange(100, dtype=np.int16), (100, 1))
    image[0, 0] = 30_000
    wide = InputRule(channels=1, height=4, width=4, geometry="native", intensity="minmax", context=20)
    seen = to_network(image, wide, place(image, wide, None))
    np.testing.assert_allclose(seen[0, 0], [[(x - 40) / 19 for x in range(48, 52)]] * 4, rtol=1e-6)
    corner = place(image, wide, Box(x=98, y=98, width=2, height=2))  # the part of the context inside: columns 89 to 99
    assert to_network(image, wide, corner).max() == 1.0


def test_a_context_smaller_than_the_field_is_refused():
    with pytest.raises(ParameterError, match="at least as large as the field"):
        InputRule(channels=1, height=8, width=9, geometry="native", intensity="minmax", context=8)


# --- resize ------------------------------------------------------------------------------------------------------------


@given(CASES)
def test_resize_looks_at_the_region_itself(case):
    (height, width), region = case
    placement = place(numbered(height, width), rule("resize", 8, 8), region)
    assert placement.field == (region or Box(x=0, y=0, width=width, height=height))


@given(CASES)
def test_resize_at_equal_size_is_the_identity(case):
    (height, width), region = case
    image = numbered(height, width)
    box = region or Box(x=0, y=0, width=width, height=height)
    same = rule("resize", box.height, box.width)
    placement = place(image, same, region)
    maps = to_network(image, same, placement)
    part = np.s_[box.y : box.y + box.height, box.x : box.x + box.width]
    assert (stored(maps) == image[part]).all()
    back = to_image(maps[0], placement)[0]
    assert (back[part] == maps[0, 0]).all()
    assert np.count_nonzero(back == 0.0) == image.size - box.width * box.height


def centroid(values):
    rows, columns = np.mgrid[: values.shape[0], : values.shape[1]] + 0.5
    return np.array([(rows * values).sum(), (columns * values).sum()]) / values.sum()


@given(SIZES, FIELDS, st.data())
def test_resize_keeps_things_where_they_are(size, field, data):
    height, width = size
    assume(min(*size, *field) >= 5)
    image = np.zeros(size, np.uint8)
    y, x = data.draw(st.integers(1, height - 3)), data.draw(st.integers(1, width - 3))
    image[y : y + data.draw(st.integers(1, 2)), x : x + data.draw(st.integers(1, 2))] = 255
    scaled = rule("resize", *field)
    placement = place(image, scaled, None)
    seen = to_network(image, scaled, placement)
    in_image_pixels = np.array(size) / np.array(field)
    assert np.abs(centroid(seen[0, 0]) * in_image_pixels - centroid(image)).max() <= 0.5 * in_image_pixels.max()
    back = to_image(seen[0], placement)[0]
    assert np.abs(centroid(back) - centroid(image)).max() <= 0.5 * max(1.0, in_image_pixels.max())


@pytest.mark.parametrize(("height", "width"), [(64, 64), (128, 128), (97, 131), (33, 40), (500, 301)])
def test_a_disc_keeps_its_place_and_size_in_images_of_any_shape(height, width):
    scaled = rule("resize", 64, 64)
    rows, columns = np.mgrid[:64, :64] + 0.5
    disc = ((rows - 25) ** 2 + (columns - 38) ** 2 < 12**2).astype(np.float32)
    placement = place(np.zeros((height, width), np.uint8), scaled, None)
    mask = to_image(disc[None], placement)[0] > 0.5
    assert np.abs(centroid(mask) - np.array([25 * height / 64, 38 * width / 64])).max() < 0.5
    assert mask.mean() == pytest.approx(disc.mean(), rel=0.03)


def test_a_region_of_one_column_is_stretched_over_the_field():
    image = np.zeros((6, 6), np.uint16)
    image[:, 3] = 65535
    scaled = rule("resize", 4, 4)
    placement = place(image, scaled, Box(x=3, y=1, width=1, height=4))
    assert (to_network(image, scaled, placement) == 1.0).all()
    back = to_image(np.ones((1, 4, 4), np.float32), placement)[0]
    assert np.argwhere(back).tolist() == [[1, 3], [2, 3], [3, 3], [4, 3]]


def test_shrinking_averages_and_does_not_skip():
    stripes = np.zeros((40, 40), np.uint8)
    stripes[:, ::2] = 255
    scaled = rule("resize", 4, 4)
    assert np.abs(to_network(stripes, scaled, place(stripes, scaled, None)) - 0.5).max() < 0.06


# --- intensities -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        (np.array([[0, 51], [102, 255]], np.uint8), [[0, 0.2], [0.4, 1]]),
        (np.array([[0, 13107], [26214, 65535]], np.uint16), [[0, 0.2], [0.4, 1]]),
        (np.array([[-5, 0], [32767, 0]], np.int16), [[0, 0], [1, 0]]),
        (np.array([[0.0, 0.25], [1.0005, -1e-4]], np.float64), [[0, 0.25], [1, 0]]),
    ],
    ids=["uint8", "uint16", "int16", "float"],
)
def test_unit_divides_by_the_largest_value_of_the_type(pixels, expected):
    same = rule("resize", 2, 2)
    np.testing.assert_allclose(to_network(pixels, same, place(pixels, same, None))[0, 0], expected, rtol=1e-6)


@pytest.mark.parametrize("pixels", [[[0.0, 255.0]], [[-1.0, 1.0]]], ids=["as bytes", "about zero"])
def test_unit_refuses_floats_of_another_scale(pixels):
    same, image = rule("resize", 1, 2), np.array(pixels)
    with pytest.raises(ImageError, match=r"from 0 to 1\. Scale them"):
        to_network(image, same, place(image, same, None))
    assert to_network(image, same, place(image, same, None), (-1.0, 255.0)).max() <= 1  # a DICOM file says its range


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.int32, np.float32, np.float64])
@pytest.mark.parametrize("geometry", ["native", "resize"])
def test_minmax_does_not_know_the_scale(geometry, dtype):
    low_to_high = np.array([[10, 20], [30, 110]])
    same = rule(geometry, 2, 2, "minmax")
    for pixels in (low_to_high.astype(dtype), (low_to_high + 17).astype(dtype)):
        seen = to_network(pixels, same, place(pixels, same, None))
        assert seen.dtype == np.float32
        np.testing.assert_allclose(seen[0, 0], [[0, 0.1], [0.2, 1]], rtol=1e-6)


@pytest.mark.parametrize("value", [0, 7, 255])
@pytest.mark.parametrize("geometry", ["native", "resize"])
def test_a_constant_image_is_zero_under_minmax(geometry, value):
    pixels = np.full((5, 4), value, np.uint8)
    flat = rule(geometry, 3, 3, "minmax")
    assert (to_network(pixels, flat, place(pixels, flat, None)) == 0.0).all()


def test_colors_become_luma_and_grey_is_repeated():
    red_green_blue = np.zeros((2, 3, 3), np.uint8)
    red_green_blue[:, [0, 1, 2], [0, 1, 2]] = 255
    one, three = rule("resize", 2, 3), rule("resize", 2, 3, channels=3)
    placement = place(red_green_blue, one, None)
    np.testing.assert_allclose(to_network(red_green_blue, one, placement)[0], [[[0.299, 0.587, 0.114]] * 2], rtol=1e-6)
    np.testing.assert_array_equal(to_network(red_green_blue, three, placement)[0], np.stack([np.eye(3)[:, :]] * 2, 1))
    grey = numbered(2, 3)
    channels = to_network(grey, three, placement)
    assert channels.shape == (1, 3, 2, 3)
    assert (channels == channels[:, :1]).all()


@pytest.mark.parametrize("geometry", ["native", "resize"])
def test_the_image_is_not_changed(geometry):
    image = np.linspace(0, 1, 30, dtype=np.float32).reshape(5, 6)
    before = image.copy()
    same = rule(geometry, 5, 6, "minmax")
    placement = place(image, same, None)
    to_network(image, same, placement)[:] = 5.0
    maps = image[None]
    to_image(maps, placement)[:] = 5.0
    assert (image == before).all()


# --- refusals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "region",
    [(-1, 0, 3, 3), (0, -1, 3, 3), (6, 0, 3, 3), (0, 3, 3, 3), (2, 2, 0, 3), (2, 2, 3, 0), (2, 2, -1, 1), (9, 9, 1, 1)],
)
@pytest.mark.parametrize("geometry", ["native", "resize"])
def test_a_region_outside_the_image_is_refused(geometry, region):
    x, y, width, height = region
    with pytest.raises(ParameterError, match=r"not inside the 8x5 image\. Give X,Y,W,H"):
        place(numbered(5, 8), rule(geometry, 4, 4), Box(x=x, y=y, width=width, height=height))


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros(5),
        np.zeros((4, 4, 4)),
        np.zeros((1, 4, 4)),
        np.zeros((4, 4, 3, 1)),
        np.zeros((1, 9)),
        np.zeros((0, 4)),
        np.zeros((4, 4), complex),
        np.full((4, 4), "a"),
        np.full((4, 4), None),
        np.array([[0.0, np.nan], [0, 0]]),
        np.array([[0.0, 1], [np.inf, 0]], np.float32),
    ],
    ids=lambda pixels: f"{pixels.dtype}{pixels.shape}",
)
def test_what_is_not_an_image_is_refused(pixels):
    with pytest.raises(ImageError, match=r"(Pass|Replace) .*\.$"):
        as_image(pixels)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.int32, np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(2, 2), (2, 5, 3)])
def test_an_image_passes_as_it_is(dtype, shape):
    pixels = np.ones(shape, dtype)
    assert (as_image(pixels) == pixels).all()


def test_a_box_of_numpy_integers_is_one_of_python_s_and_fractions_are_none():
    box = Box(x=np.int64(1), y=np.uint8(2), width=np.int32(3), height=4)
    assert json.dumps(dataclasses.asdict(box)) == '{"x": 1, "y": 2, "width": 3, "height": 4}'
    with pytest.raises(TypeError):
        Box(x=0.5, y=0, width=1, height=1)
