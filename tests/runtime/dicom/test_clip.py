"""Clips of multi-frame DICOM objects: plain, enhanced, and encapsulated video."""

import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import MPEG4HP41

from medseg_runtime import ImageError, ParameterError
from medseg_runtime.readers.clip import Frames, read_clip
from medseg_runtime.readers.image import read_image


@pytest.fixture
def cine(changed, tmp_path):
    """cine(**values) -> path of an ultrasound of 30 frames with these values."""

    def write(**values):
        path = tmp_path / "cine.dcm"
        changed("examples_ybr_color.dcm", **values).save_as(path, enforce_file_format=True)
        return path

    return write


def test_every_frame_is_the_one_that_frame_k_reads(cine):
    path = cine()
    clip = read_clip(path, Frames(3, 9))
    images = list(clip)
    assert (clip.count, len(images), clip.kind) == (7, 7, "DICOM US")
    for number, image in enumerate(images, start=3):
        expected = read_image(path, number)
        np.testing.assert_array_equal(image.pixels, expected.pixels)
        assert (image.frame, image.dicom.frame, image.sha256) == (number, number, clip.sha256)


@pytest.mark.parametrize("frames", ["1000000000", "1e308"])
def test_more_frames_than_a_file_can_hold_are_refused_at_once(frames, cine):
    path = cine()
    path.write_bytes(
        path.read_bytes().replace(
            b"IS\x02\x0030",
            b"IS"
            + len(frames + " " * (len(frames) % 2)).to_bytes(2, "little")
            + frames.encode()
            + b" " * (len(frames) % 2),
            1,
        )
    )
    with pytest.raises(ImageError, match=r"more frames \(NumberOfFrames\) than the file holds. Export"):
        read_clip(path)


TIMES = {
    "Frame Time": ({"FrameTime": "40"}, [0.0, 0.04, 0.08]),
    "Frame Time Vector": ({"FrameTimeVector": [0, 50, *[100] * 28]}, [0.0, 0.05, 0.15]),
    "Cine Rate": ({"FrameTime": None, "CineRate": "20"}, [0.0, 0.05, 0.1]),
    "nothing": ({"FrameTime": None, "CineRate": None, "RecommendedDisplayFrameRate": None}, [0.0, 0.1, 0.2]),
    "a vector of another length": ({"FrameTime": "40", "FrameTimeVector": [0, 50]}, [0.0, 0.04, 0.08]),
    "an endless time": ({"FrameTime": "1e999", "CineRate": "50"}, [0.0, 0.02, 0.04]),
    "a time of zero": ({"FrameTime": "0", "CineRate": "50"}, [0.0, 0.02, 0.04]),
}


@pytest.mark.parametrize("kind", TIMES)
def test_times(kind, cine):
    values, expected = TIMES[kind]
    clip = read_clip(cine(**values), Frames(1, 3))
    assert [image.time_s for image in clip] == pytest.approx(expected)


def test_enhanced_objects_keep_the_values_of_each_frame(sources):
    pytest.importorskip("highdicom")
    path = sources("eCT_Supplemental.dcm")
    for number, image in enumerate(read_clip(path), start=1):
        expected = read_image(path, number)
        np.testing.assert_array_equal(image.pixels, expected.pixels)
        assert image.dicom.plane == expected.dicom.plane


def test_frames_that_are_not_there(cine, sources):
    with pytest.raises(ParameterError, match="within 1-30"):
        read_clip(cine(), Frames(20, 31))
    with pytest.raises(ImageError, match="Leave --frames out"):
        read_clip(sources("CT_small.dcm"))


@pytest.fixture
def encapsulated(cine, moving_nodule, write_video, tmp_path):
    """An object whose pixels are an H.264 stream in MP4, as endoscopes store it (PS3.5, A.4.6)."""
    frames = list(moving_nodule(20))
    video = write_video(tmp_path / "stream.mp4", frames, options={"crf": "1"}).read_bytes()
    path = cine(
        Rows=128,
        Columns=128,
        NumberOfFrames=len(frames),
        PhotometricInterpretation="YBR_PARTIAL_420",
        PixelData=encapsulate([video + b"\0" * (len(video) % 2)], has_bot=True),
    )
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = MPEG4HP41
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path, enforce_file_format=True)
    return path, frames


def test_encapsulated_video(encapsulated):
    path, frames = encapsulated
    clip = read_clip(path)
    images = list(clip)
    assert (clip.count, clip.kind, len(images)) == (20, "DICOM US", 20)
    for image, frame in zip(images, frames, strict=True):
        assert np.abs(image.pixels.mean(axis=2) - frame).mean() < 3
    assert [image.frame for image in read_clip(path, Frames(4, 6))] == [4, 5, 6]
    assert "a name may be burned into the pixels" in clip.warnings[0]
