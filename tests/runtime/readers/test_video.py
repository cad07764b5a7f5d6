"""Videos of every kind, written by PyAV and compared with what went in, or with FFmpeg's own program where it is installed."""

import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from medseg_runtime import ImageError, ParameterError, read_image
from medseg_runtime.readers.clip import Frames, read_clip
from medseg_runtime.readers.file_kind import head_of, is_video
from medseg_runtime.testing import toy_segmenter

av = pytest.importorskip("av")
COUNT = 30


@pytest.fixture(scope="module")
def colored():
    """Frames (48, 64, 3): a bright bar that moves on a colored ground."""
    frames = np.zeros((COUNT, 48, 64, 3), np.uint8)
    frames[:] = (200, 90, 40)
    for number in range(COUNT):
        frames[number, :, 2 * number : 2 * number + 4] = (30, 220, 120)
    return frames


def pixels_of(path, frames=None):
    return [image.pixels for image in (read_clip(path) if frames is None else read_clip(path, frames))]


CONTAINERS = {
    "a.mp4": {},
    "a.mov": {"codec": "mpeg4"},
    "a.avi": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
    "a.mkv": {},
    "a.webm": {"codec": "libvpx-vp9"},
    "a.ts": {"codec": "mpeg2video", "rate": 25},
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_containers(name, colored, write_video, tmp_path):
    path = write_video(tmp_path / name, colored, **CONTAINERS[name])
    assert is_video(head_of(path))
    clip = read_clip(path)
    assert clip.size == (48, 64)
    assert clip.count in (None, COUNT)
    assert clip.rate == pytest.approx(CONTAINERS[name].get("rate", 12))
    images = list(clip)
    assert [image.frame for image in images] == list(range(1, COUNT + 1))
    assert [image.time_s for image in images] == pytest.approx(
        [number / clip.rate for number in range(COUNT)], abs=2e-3
    )
    assert not clip.warnings
    assert {image.sha256 for image in images} == {clip.sha256}
    for image, frame in zip(images, colored, strict=True):
        assert np.abs(image.pixels.astype(int) - frame).mean() < 6


def test_lossless_grey_keeps_its_values(write_video, tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (3, 31, 45), np.uint8)
    path = write_video(tmp_path / "a.mkv", frames, codec="ffv1", pix_fmt="gray")
    np.testing.assert_array_equal(pixels_of(path), frames)
    deep = np.random.default_rng(0).integers(0, 65536, (3, 31, 45), np.uint16)
    path = write_video(tmp_path / "b.mkv", deep, codec="ffv1", pix_fmt="gray16le")
    np.testing.assert_array_equal(pixels_of(path), deep)
    assert next(iter(read_clip(path))).warnings == ()


def test_odd_sizes(write_video, tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (3, 31, 45, 3), np.uint8)
    path = write_video(tmp_path / "a.mkv", frames, codec="libx264rgb", pix_fmt="rgb24", options={"crf": "0"})
    np.testing.assert_array_equal(pixels_of(path), frames)


def test_the_colors_are_those_of_ffmpeg(colored, write_video, tmp_path):
    program = shutil.which("ffmpeg")
    if program is None:
        pytest.skip("NOT JUDGED: ffmpeg is absent; as root: apt-get install ffmpeg")
    for name, options in CONTAINERS.items():
        path = write_video(tmp_path / name, colored, **options)
        command = [program, "-v", "error", "-noautorotate", "-i", path, "-pix_fmt", "rgb24", "-f", "rawvideo", "-"]
        raw = subprocess.run(command, capture_output=True, check=True).stdout
        expected = np.frombuffer(raw, np.uint8).reshape(-1, 48, 64, 3).astype(int)
        np.testing.assert_allclose(np.array(pixels_of(path), int), expected, atol=2)


WARNED = {
    "10 bits": ({"pix_fmt": "yuv420p10le", "codec": "ffv1"}, "a.mkv", "colors of 10 bits were read with 8"),
    "a phone held upright": ({"rotation": 90}, "a.mp4", "the rotation of the video (90 degrees) was not applied"),
    "interlaced": ({"codec": "mpeg2video", "flags": 1 << 29, "rate": 25}, "a.mpg", "the video is interlaced"),
}


@pytest.mark.parametrize("kind", WARNED)
def test_less_usual_kinds_are_read_with_a_warning(kind, colored, write_video, tmp_path):
    options, name, warning = WARNED[kind]
    path = write_video(tmp_path / name, colored[:5], **options)
    images = list(read_clip(path))
    assert len(images) == 5
    assert images[2].pixels.shape == (48, 64, 3)
    assert any(text.startswith(warning) for text in images[2].warnings)
    assert np.abs(images[2].pixels.astype(int) - colored[2]).mean() < 8


def test_transparent_frames_are_composited_on_black(write_video, tmp_path):
    frame = np.zeros((16, 16, 4), np.uint8)
    frame[:, :8] = (200, 100, 50, 128)
    path = write_video(tmp_path / "a.mov", [frame] * 3, codec="qtrle", pix_fmt="argb")
    image = next(iter(read_clip(path)))
    assert image.pixels[0, 0].tolist() == [100, 50, 25]
    assert image.pixels[0, 12].tolist() == [0, 0, 0]
    assert image.warnings == ("the video is partly transparent, and was composited on black",)


def test_each_frame_has_its_own_time(colored, write_video, tmp_path):
    times = [0.0, 0.04, 0.5, 0.52, 2.0]
    path = write_video(tmp_path / "a.mkv", colored[:5], times=times)
    assert [image.time_s for image in read_clip(path)] == pytest.approx(times, abs=2e-3)


def test_some_frames(colored, write_video, tmp_path):
    path = write_video(tmp_path / "a.mp4", colored)
    clip = read_clip(path, Frames(5, 9))
    assert clip.count == 5
    assert [image.frame for image in clip] == [5, 6, 7, 8, 9]
    np.testing.assert_array_equal(pixels_of(path, Frames(5, 9)), pixels_of(path)[4:9])
    with pytest.raises(ParameterError, match="Give --frames from 1 to 30"):
        list(read_clip(path, Frames(31, 40)))
    beyond = read_clip(path, Frames(29, 40))
    assert len(list(beyond)) == 2
    assert beyond.warnings == ["frames up to 40 were asked for, and the clip ends at frame 30"]
    for call in (read_image, toy_segmenter()):
        with pytest.raises(ImageError, match=r"this is a video, not one image.*read_clip"):
            call(path)


def test_a_clip_can_be_read_twice(colored, write_video, tmp_path):
    clip = read_clip(write_video(tmp_path / "a.mp4", colored))
    assert len(list(clip)) == len(list(clip)) == COUNT


def textured(count):
    return np.random.default_rng(0).integers(0, 256, (count, 64, 64, 3), np.uint8)


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_video_that_is_cut_short_says_so(name, write_video, tmp_path):
    """Either an error whose remedy works, or the frames that are there with a warning."""
    path = write_video(tmp_path / name, textured(60), **CONTAINERS[name], options={"g": "10"})
    whole = pixels_of(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    try:
        clip = read_clip(path)
        images = list(clip)
        if name != "a.ts":  # MPEG-TS is made for recordings that end anywhere, and states no length
            assert "may be cut short" in clip.warnings[0]
    except ImageError as error:
        assert "cut short" in error.problem  # noqa: PT017
        if "--frames" not in error.remedy:
            assert name in ("a.mp4", "a.mov")  # the index is at the end
            return
        last = int(error.remedy.rpartition("-")[2].rstrip("."))
        images = list(read_clip(path, Frames(1, last)))
        assert len(images) == last
    assert 10 < len(images) < 60
    for image, pixels in zip(images[:-1], whole, strict=False):
        np.testing.assert_array_equal(image.pixels, pixels)


@pytest.mark.parametrize("name", ["a.avi", "a.ts", "a.mkv"])
def test_damaged_frames_are_not_made_up(name, write_video, tmp_path):
    path = write_video(tmp_path / name, textured(60), **CONTAINERS[name], options={"g": "10"})
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 2000] = bytes(2000)
    path.write_bytes(content)
    with pytest.raises(ImageError, match="damaged or cut short after frame"):
        list(read_clip(path))


def test_a_damaged_picture_is_not_filled_up(moving_nodule, write_video, tmp_path):
    """FFmpeg would repeat what it has of the picture, and say so only in its log."""
    path = write_video(tmp_path / "a.avi", moving_nodule(20), codec="mjpeg", pix_fmt="yuvj420p")
    content = path.read_bytes()
    start = content.index(b"\xff\xda", len(content) // 2)  # of the coded pixels
    path.write_bytes(
        content[: start + 300]
        + bytes(byte ^ 0x5A for byte in content[start + 300 : start + 400])
        + content[start + 400 :]
    )
    with pytest.raises(ImageError, match="damaged or cut short after frame"):
        list(read_clip(path))


def test_frames_of_several_sizes_are_refused(write_video, tmp_path):
    options = {"codec": "mpeg2video", "rate": 25}
    parts = [
        write_video(tmp_path / f"{width}.ts", np.full((10, 48, width, 3), 90, np.uint8), **options)
        for width in (64, 96)
    ]
    (tmp_path / "both.ts").write_bytes(b"".join(part.read_bytes() for part in parts))
    with pytest.raises(ImageError, match="differ in size") as caught:
        list(read_clip(tmp_path / "both.ts"))
    last = int(caught.value.remedy.rpartition("-")[2].rstrip("."))
    assert len(list(read_clip(tmp_path / "both.ts", Frames(1, last)))) == last


def test_what_is_no_video(tmp_path):
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 44100), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 44100
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    with pytest.raises(ImageError, match="holds no video"):
        read_clip(tmp_path / "sound.mp4")
    Image.new("L", (9, 9)).save(tmp_path / "picture.png")
    (tmp_path / "picture.png").rename(tmp_path / "picture.mp4")
    assert not is_video(head_of(tmp_path / "picture.mp4"))  # read as the picture that it is
    (tmp_path / "head.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(100))
    for name in ("picture.mp4", "head.mp4", "absent.mp4", "."):
        with pytest.raises(ImageError):
            read_clip(tmp_path / name)


def test_still_images_are_no_videos():
    assert not is_video(b"GIF89a" + b"G" * 182 + b"GG" + bytes(300))  # begins like an MPEG-TS packet
    for brand in (b"avif", b"heic", b"mif1"):
        assert not is_video(b"\0\0\0\x1cftyp" + brand + bytes(8))
    assert is_video(b"\0\0\0\x1cftypisom" + bytes(8))


@pytest.mark.parametrize("frames", [(0, None), (5, 4), (-1, 3)])
def test_ranges_that_are_none(frames):
    with pytest.raises(ParameterError, match="--frames A-B"):
        Frames(*frames)
