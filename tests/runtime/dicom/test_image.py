"""Frames, enhanced objects, compressed pixels, and the range that the rule `unit` takes."""

import warnings

import numpy as np
import pydicom
import pytest

from medseg_runtime import ImageError, ParameterError
from medseg_runtime.model.preprocess import InputRule, place, to_network
from medseg_runtime.readers.image import read_image
from medseg_runtime.testing import toy_segmenter


def test_a_frame_of_many(sources):
    path = sources("examples_ybr_color.dcm")
    with pytest.raises(ImageError, match=r"several frames .30.* --frame K, from 1 to 30"):
        read_image(path)
    frames = pydicom.dcmread(path).pixel_array
    for number in (1, 7, 30):
        image = read_image(path, number)
        np.testing.assert_array_equal(image.pixels, frames[number - 1])
        assert (image.dicom.frame, image.dicom.frames) == (number, 30)


@pytest.mark.parametrize("number", [0, -1, 31])
def test_a_frame_that_is_not_there(number, sources):
    with pytest.raises(ParameterError, match="from 1 to 30"):
        read_image(sources("examples_ybr_color.dcm"), number)


def test_only_dicom_has_frames(tmp_path):
    from PIL import Image

    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(ParameterError, match="--frame"):
        read_image(tmp_path / "a.png", 1)


def test_enhanced_frames_have_their_own_values_and_places(sources):
    highdicom = pytest.importorskip("highdicom")
    path = sources("eCT_Supplemental.dcm")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = highdicom.imread(path)
        expected = image.get_frames(apply_modality_transform=True)
        planes = [
            groups.PlanePositionSequence[0].ImagePositionPatient for groups in image.PerFrameFunctionalGroupsSequence
        ]
    for number in (1, 2):
        read = read_image(path, number)
        np.testing.assert_array_equal(read.pixels, expected[number - 1])
        assert read.dicom.plane.position == tuple(planes[number - 1])
        assert read.spacing_mm == read.dicom.plane.spacing_mm
    assert planes[0] != planes[1]


def test_an_enhanced_object_is_read_without_highdicom(sources, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "highdicom", None)
    assert read_image(sources("eCT_Supplemental.dcm"), 1).kind == "DICOM CT"


@pytest.mark.parametrize("coded", ["RLE", "jp2klossless", "jpeg_ls_lossless", "bigendian", "implicit"])
def test_every_lossless_coding_gives_the_same_pixels(coded, sources):
    if coded.startswith("jp"):
        pytest.importorskip("openjpeg" if coded == "jp2klossless" else "jpeg_ls")
    plain = read_image(sources("MR_small.dcm"))
    np.testing.assert_array_equal(read_image(sources(f"MR_small_{coded}.dcm")).pixels, plain.pixels)


def test_jpeg_lossless_names_the_decoder_that_is_the_users_choice(sources):
    with pytest.raises(ImageError, match=r"pylibjpeg-libjpeg.*GPL-3"):
        read_image(sources("SC_rgb_jpeg_gdcm.dcm"))


def test_padding_may_be_a_range(changed, read):
    dataset = changed("CT_small.dcm", PixelPaddingValue=-2000)
    dataset.add_new("PixelPaddingRangeLimit", "SS", -1900)
    stored = dataset.pixel_array.copy()
    stored[:3], stored[3:6] = -2000, -1950
    dataset.PixelData = stored.tobytes()
    image = read(dataset)
    assert (image.pixels[:6] == image.pixels[6:].min()).all()


@pytest.mark.parametrize(("representation", "coded"), [(1, ("US", 63536)), (0, ("SS", -2000))])
def test_padding_is_the_same_bits_whatever_its_coding(representation, coded, changed, read):
    """GE's CT, LIDC-IDRI's first patient among them, says US 63536 beside signed pixels."""
    dataset = changed("CT_small.dcm", PixelRepresentation=representation, PixelPaddingValue=None)
    dataset.add_new("PixelPaddingValue", *coded)
    stored = dataset.pixel_array.copy()
    stored[:3] = np.array(-2000, np.int16).astype(stored.dtype)
    dataset.PixelData = stored.tobytes()
    image = read(dataset)
    assert (image.pixels[:3] == image.pixels[3:].min()).all()
    assert "padding" in image.warnings[0]


def test_only_the_first_frame_of_an_older_multi_frame_object_says_where_it_lies(sources):
    image = read_image(sources("rtdose.dcm"), 15)
    assert (image.dicom.frames, image.dicom.plane) == (15, None)
    assert image.spacing_mm is not None


@pytest.mark.parametrize("name", ["MR_small_RLE.dcm", "MR_small_jp2klossless.dcm"])
def test_damaged_pixels_are_not_called_a_missing_decoder(name, sources, read):
    if "jp2k" in name:
        pytest.importorskip("openjpeg")
    dataset = pydicom.dcmread(sources(name))
    dataset.PixelData = pydicom.encaps.encapsulate(
        [next(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=1))[:200]]
    )
    with pytest.raises(ImageError, match=r"damaged or cut short.*Export the image again"):
        read(dataset)


class TestUnit:
    rule = InputRule(channels=1, height=128, width=128, geometry="resize", intensity="unit")

    def brought(self, image):
        return to_network(image.pixels, self.rule, place(image.pixels, self.rule, None), image.value_range)[0, 0]

    def test_is_the_window(self, changed, read):
        image = read(changed("CT_small.dcm", WindowCenter=["40", "300"], WindowWidth=["400", "1500"]))
        assert image.value_range == (-160.0, 240.0)
        expected = np.clip((image.pixels + 160.0) / 400.0, 0, 1)
        np.testing.assert_allclose(self.brought(image), expected, atol=1e-6)

    @pytest.mark.parametrize("width", ["0", "-5", None])
    def test_is_all_that_the_bits_can_say_without_a_valid_window(self, width, changed, read):
        values = {"BitsStored": 12, "HighBit": 11, "PixelRepresentation": 0, "PixelPaddingValue": None}
        window = {} if width is None else {"WindowCenter": "40", "WindowWidth": width}
        image = read(changed("CT_small.dcm", **values, **window))
        assert image.value_range == (-1024.0, 4095.0 - 1024.0)

    def test_turns_with_monochrome1(self, changed, read):
        values = {"PixelRepresentation": 0, "WindowCenter": "1000", "WindowWidth": "2000", "PixelPaddingValue": None}
        plain = self.brought(read(changed("CT_small.dcm", **values)))
        turned = self.brought(read(changed("CT_small.dcm", PhotometricInterpretation="MONOCHROME1", **values)))
        np.testing.assert_allclose(turned, 1.0 - plain, atol=1e-6)

    def test_of_color_is_the_stored_bits(self, sources):
        assert read_image(sources("SC_rgb.dcm")).value_range == (0.0, 255.0)

    def test_reaches_the_network_through_the_segmenter(self, sources):
        manifest = toy_segmenter().manifest
        from dataclasses import replace

        segmenter = toy_segmenter(replace(manifest, input=replace(manifest.input, intensity="unit")))
        seen = {}
        run = segmenter.backend.run
        segmenter.backend.run = lambda graph, feeds: (seen.update(feeds), run(graph, feeds))[1]
        image = read_image(sources("MR_small.dcm"))
        segmenter(image, samples=1)
        low, high = image.value_range
        np.testing.assert_allclose(seen["image"][0, 0], np.clip((image.pixels - low) / (high - low), 0, 1), atol=1e-6)


def test_no_patient_value_in_what_an_image_prints(sources):
    text = repr(read_image(sources("CT_small.dcm")))
    assert "CompressedSamples" not in text
    assert "1CT1" not in text


@pytest.mark.parametrize("name", ["J2K_pixelrep_mismatch.dcm", "MR-SIEMENS-DICOM-WithOverlays.dcm"])
def test_a_whole_slice_is_refused_until_someone_points(name, sources):
    image = read_image(sources(name))
    segmenter = toy_segmenter()
    with pytest.raises(ParameterError, match=r"needs a point.*--center X,Y"):
        segmenter(image, samples=2)
    assert segmenter.backend.calls == []
    assert segmenter(image, samples=2, center=(200.0, 100.5)).placement.field.center == (200.0, 100.0)


def test_a_point_outside_the_image_or_beside_a_region(sources):
    from medseg_runtime import Box

    image, segmenter = read_image(sources("CT_small.dcm")), toy_segmenter()
    for point in ((-1, 5), (5, 129), (float("nan"), 5)):
        with pytest.raises(ParameterError, match="not inside"):
            segmenter(image, center=point)
    with pytest.raises(ParameterError, match="exclude"):
        segmenter(image, center=(5, 5), region=Box(x=0, y=0, width=5, height=5))
