"""Images from memory and open files, and arrays of every kind."""

import hashlib
import io
import socket
import threading
import time

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.data import get_testdata_file

from medseg_runtime import ImageError, ParameterError, SourceImage, read_image
from medseg_runtime.model.preprocess import Box, InputRule, Placement, to_network
from medseg_runtime.testing import toy_segmenter

PIXELS = np.random.default_rng(0).integers(0, 255, (64, 80)).astype(np.uint8)
CT = get_testdata_file("CT_small.dcm", download=False)


def png(pixels=PIXELS):
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


class Reader:
    """An open file of another library: only read()."""

    def __init__(self, content):
        self.read = io.BytesIO(content).read


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, io.BytesIO, Reader])
def test_bytes_and_open_files_are_images(kind):
    image = read_image(kind(png()))
    np.testing.assert_array_equal(image.pixels, PIXELS)
    assert (image.kind, image.sha256) == ("PNG", hashlib.sha256(png()).hexdigest())
    result = toy_segmenter()(kind(png()), samples=2)
    np.testing.assert_array_equal(result.masks, toy_segmenter()(PIXELS, samples=2).masks)


def test_a_stream_takes_them_too(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(png())
    with path.open("rb") as opened:
        outcomes = list(toy_segmenter().stream([png(), io.BytesIO(png()), opened, path], samples=2))
    assert {outcome.result().source.sha256 for outcome in outcomes} == {hashlib.sha256(png()).hexdigest()}


def test_a_frame_of_bytes():
    path = get_testdata_file("examples_ybr_color.dcm", download=False)
    if path is None:
        pytest.skip("examples_ybr_color.dcm is absent: pip install pydicom-data")
    with open(path, "rb") as opened:  # noqa: PTH123 - a file object as users have them
        image = read_image(opened, frame=7)
    np.testing.assert_array_equal(image.pixels, read_image(path, frame=7).pixels)
    assert image.dicom.frame == 7


def test_a_data_set_of_pydicom_is_its_file():
    dataset = pydicom.dcmread(CT)
    before = dataset.to_json()
    image, again = read_image(dataset), read_image(CT)
    np.testing.assert_array_equal(image.pixels, again.pixels)
    assert (image.kind, image.dicom.plane) == ("DICOM CT", again.dicom.plane)
    assert len(image.sha256) == 64
    assert dataset.to_json() == before
    assert toy_segmenter()(dataset, samples=1, center=(64, 64)).masks.shape == (1, 128, 128)


def test_a_data_set_without_a_transfer_syntax_is_refused_without_its_content(capfd):
    dataset = pydicom.dcmread(CT)
    del dataset.file_meta.TransferSyntaxUID
    dataset.PatientName = "DOE^JANE"
    with pytest.raises(ImageError, match="Set its file_meta with the transfer syntax") as caught:
        read_image(dataset)
    assert "DOE" not in str(caught.value) + "".join(capfd.readouterr())


async def coroutine():
    return b""


class Failing:
    def read(self, size):
        raise RuntimeError(size)


REFUSED = {
    "nothing": (lambda: b"", "no bytes to read"),
    "a file that was read": (lambda: (opened := io.BytesIO(png()), opened.read())[0], r"seek\(0\)"),
    "a text file": (lambda: io.StringIO("text"), "mode 'rb'"),
    "a closed file": (lambda: (opened := io.BytesIO(png()), opened.close())[0], "mode 'rb'"),
    "a coroutine": (type("Upload", (), {"read": lambda *_: coroutine()}), "returned coroutine, not bytes"),
    "an error of an HTTP library": (Failing, "RuntimeError"),
    "a URL": (lambda: "https://example.org/a.png", "Download it"),
    "another URL": (lambda: "s3://bucket/a.dcm", "Download it"),
    "text": (lambda: b"no image", "PNG, JPEG, TIFF, BMP or DICOM"),
    "no path": (lambda: "no/such/file.png", "cannot be read"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_one_message(name):
    make, remedy = REFUSED[name]
    for call in (read_image, toy_segmenter()):
        with pytest.raises(ImageError, match=remedy):
            call(make())


def test_a_stream_that_returns_what_has_arrived_is_read_to_its_end():
    reading, writing = socket.socketpair()
    content = png()

    def send():
        for first in range(0, len(content), 500):
            writing.sendall(content[first : first + 500])
            time.sleep(0.001)
        writing.close()

    sender = threading.Thread(target=send)
    sender.start()
    with reading, reading.makefile("rb", buffering=0) as unbuffered:
        image = read_image(unbuffered)
    sender.join()
    np.testing.assert_array_equal(image.pixels, PIXELS)


@pytest.mark.parametrize("frame", [1.0, "1"])
def test_the_number_of_a_frame_is_whole(frame):
    with pytest.raises(ParameterError, match="whole number"):
        read_image(CT, frame)
    assert read_image(CT, np.int64(1)).dicom.frame == 1


def test_a_url_on_the_command_line(run_command, monkeypatch, tmp_path):
    from medseg_runtime import Segmenter
    from medseg_runtime.commands import infer

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Segmenter, "load", lambda *_args, **_kwargs: toy_segmenter())
    code, out, err = run_command(infer.main, "medseg-infer", "https://example.org/a.png")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "Download it" in err


NUMBERS = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float16", "float32", "float64")


@pytest.mark.parametrize("dtype", NUMBERS)
def test_every_type_of_number_gives_the_same_masks(dtype, tmp_path):
    pixels = PIXELS // 2
    expected = toy_segmenter()(pixels.astype(np.float64), samples=2)
    result = toy_segmenter()(pixels.astype(dtype), samples=2)
    np.testing.assert_array_equal(result.masks, expected.masks)
    result.save(tmp_path / "out")


def test_booleans_are_black_and_white():
    np.testing.assert_array_equal(SourceImage.from_array(np.eye(4, dtype=bool)).pixels, 255 * np.eye(4))


def test_grey_with_an_axis_is_grey():
    result = toy_segmenter()(PIXELS[:, :, None], samples=2)
    np.testing.assert_array_equal(result.masks, toy_segmenter()(PIXELS, samples=2).masks)
    assert result.masks.shape == (2, 64, 80)


@pytest.mark.parametrize(
    ("shape", "remedy"),
    [
        ((3, 64, 64), r"transpose\(1, 2, 0\)"),
        ((1, 64, 64), r"pixels\[0\]"),
        ((64, 64, 2), "RGB pixels"),
        ((64, 64, 4), "alpha"),
        ((64, 64, 5), "RGB pixels"),
        ((2, 64, 64, 3), "one image at a time"),
        ((64,), r"bytes of a file, pixels\.tobytes"),
        ((), "RGB pixels"),
    ],
)
def test_arrays_of_other_shapes_are_refused(shape, remedy):
    with pytest.raises(ImageError, match=remedy):
        toy_segmenter()(np.zeros(shape, np.uint8), samples=1)


def test_arrays_of_other_types_are_refused():
    others = (
        np.zeros((4, 4), complex),
        np.full((4, 4), None),
        np.full((4, 4), "a"),
        None,
        object(),
        {1: 2},
        [[None]],
        ["a.png", "b.png"],
    )
    for pixels in others:
        with pytest.raises(ImageError, match="is not an image"):
            toy_segmenter()(pixels, samples=1)
    for pixels, remedy in (
        ([[1, 2], [3]], "NumPy array"),
        (np.ma.masked_equal(np.eye(4), 1), "filled"),
        (np.full((4, 4), np.nan), "NaN"),
    ):
        with pytest.raises(ImageError, match=remedy):
            toy_segmenter()(pixels, samples=1)


def test_tensors_of_torch():
    torch = pytest.importorskip("torch")
    expected = toy_segmenter()(PIXELS, samples=2).masks
    np.testing.assert_array_equal(toy_segmenter()(torch.from_numpy(PIXELS), samples=2).masks, expected)
    for tensor, remedy in (
        (torch.zeros(8, 8, requires_grad=True), r"detach\(\)\.cpu\(\)\.numpy\(\)"),
        (torch.zeros(8, 8, dtype=torch.bfloat16), r"detach\(\)\.cpu\(\)\.numpy\(\)"),
        (torch.zeros(8, 8, device="meta"), r"detach\(\)\.cpu\(\)\.numpy\(\)"),
        (torch.zeros(3, 8, 8), r"transpose\(1, 2, 0\)"),
        (torch.zeros(1, 3, 8, 8), "one image at a time"),
    ):
        with pytest.raises(ImageError, match=remedy):
            toy_segmenter()(tensor, samples=1)


@pytest.mark.parametrize("mode", ["P", "CMYK", "YCbCr", "LAB", "HSV", "1", "L", "RGB"])
def test_a_picture_of_pillow_has_its_colors(mode):
    colors = Image.fromarray(np.random.default_rng(1).integers(0, 255, (16, 16, 3)).astype(np.uint8))
    picture = colors.convert(mode)
    pixels = SourceImage.from_array(picture).pixels
    np.testing.assert_array_equal(pixels, picture.convert("L" if mode in ("1", "L") else "RGB"))


def test_a_picture_with_alpha_is_refused():
    for mode in ("RGBA", "LA"):
        with pytest.raises(ImageError, match=r"convert\('RGB'\)"):
            SourceImage.from_array(Image.new(mode, (8, 8)))


def test_a_color_that_is_transparent_is_refused_too():
    for mode in ("L", "RGB", "P"):
        picture = Image.new(mode, (8, 8))
        picture.info["transparency"] = 0
        with pytest.raises(ImageError, match="alpha"):
            SourceImage.from_array(picture)


def test_what_a_picture_of_pillow_hides_is_warned_of():
    turned = Image.new("L", (8, 8))
    turned.getexif()[0x0112] = 6
    (note,) = SourceImage.from_array(turned).warnings
    assert "EXIF orientation was not applied" in note
    content = io.BytesIO()
    Image.new("L", (8, 8)).save(content, "TIFF", save_all=True, append_images=[Image.new("L", (8, 8), 9)])
    (note,) = SourceImage.from_array(Image.open(content)).warnings
    assert "holds several images" in note


def test_a_picture_of_pillow_that_cannot_be_decoded_is_one_message():
    cut = Image.open(io.BytesIO(png()[:2000]))
    closed = Image.open(io.BytesIO(png()))
    closed.close()
    for picture in (cut, closed):
        with pytest.raises(ImageError, match="cannot be decoded"):
            toy_segmenter()(picture, samples=1)


def test_integers_without_a_range_are_refused_where_the_range_counts():
    rule = InputRule(channels=1, height=8, width=8, geometry="resize", intensity="unit")
    placement = Placement(image_height=8, image_width=8, field=Box(x=0, y=0, width=8, height=8))
    for dtype in ("int32", "uint32", "int64", "uint64"):
        with pytest.raises(ImageError, match="Convert them to uint8 or uint16"):
            to_network(np.full((8, 8), 200, dtype), rule, placement)
    assert to_network(np.full((8, 8), 200, np.int64), rule, placement, (0, 255)).max() == np.float32(200 / 255)
