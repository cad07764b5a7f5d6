"""medseg-infer on clips: the folder that it writes, what it refuses, and how it stops."""

import csv
import hashlib
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image, ImageSequence
from pydicom.data import get_testdata_file

from medseg_runtime import Segmenter
from medseg_runtime.commands import infer as infer_command
from medseg_runtime.readers.clip import read_clip
from medseg_runtime.testing import toy_manifest, toy_segmenter

av = pytest.importorskip("av")
COUNT = 15


@pytest.fixture
def clip(moving_nodule, write_video, tmp_path):
    return write_video(tmp_path / "nodule.mkv", moving_nodule(COUNT), codec="ffv1", pix_fmt="gray")


@pytest.fixture
def infer(run_command, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Segmenter, "load", lambda *_args, **_kwargs: toy_segmenter())
    return lambda *arguments: run_command(infer_command.main, "medseg-infer", *arguments)


def grey(path):
    with Image.open(path) as picture:
        return np.asarray(picture)


def pages(path):
    with Image.open(path) as picture:
        return [np.asarray(page) for page in ImageSequence.Iterator(picture)]


def test_the_folder_of_a_clip(clip, infer, tmp_path):
    code, out, err = infer(clip, "--center", "60,70", "--samples", 4, "--out", "one")
    assert code == 0, err
    assert out.startswith("nodule.mkv: 15 frames, 4 samples each, nodule in 15 of 15, at most ")
    folder = tmp_path / "one"
    names = {f"{number:06d}" for number in range(1, COUNT + 1)}
    assert {path.name for path in folder.iterdir()} == {
        "SHA256SUMS", "confidence", "consensus", "frames.csv", "masks", "overlay.mp4", "result.json",
    }  # fmt: skip
    for kind in ("consensus", "confidence", "masks"):
        assert {path.stem for path in (folder / kind).iterdir()} == names
    segmenter = toy_segmenter()
    with (folder / "frames.csv").open() as file:
        rows = list(csv.DictReader(file))
    for image, row in zip(read_clip(clip), rows, strict=True):
        result = segmenter(image, samples=4, center=(60, 70))
        name = f"{image.frame:06d}"
        np.testing.assert_array_equal(grey(folder / "consensus" / f"{name}.png") > 0, result.consensus)
        np.testing.assert_array_equal(grey(folder / "confidence" / f"{name}.png"), np.rint(255 * result.confidence))
        np.testing.assert_array_equal(pages(folder / "masks" / f"{name}.tif"), result.masks)
        assert (int(row["frame"]), float(row["time_s"])) == (
            image.frame,
            pytest.approx((image.frame - 1) / 12, abs=1e-3),
        )
        assert [int(row[f"area_px_{k:02d}"]) for k in range(4)] == result.areas.tolist()
        assert int(row["consensus_area_px"]) == result.consensus.sum()


def test_what_the_record_says(clip, infer, tmp_path):
    code, out, _ = infer(clip, "--samples", 3, "--frames", "4-9", "--out", "one", "--json", "--audit", "log.jsonl")
    record = json.loads((tmp_path / "one" / "result.json").read_text())
    assert (code, json.loads(out)) == (0, record)
    assert record["frames"] == {"count": 6, "first": 4, "last": 9, "last_time_s": 0.667, "mean_rate_hz": 12.0}
    assert record["input"]["sha256"] == hashlib.sha256(clip.read_bytes()).hexdigest()
    assert record["sampling"]["samples"] == 3
    assert record["versions"]["av"] == av.__version__
    announced, line = map(json.loads, (tmp_path / "log.jsonl").read_text().splitlines())
    assert (announced["event"], announced["outputs"]) == ("publishing", line["outputs"])
    assert line["parameters"]["frames"] == "4-9"
    assert line["input_sha256"] == record["input"]["sha256"]
    assert line["outputs"].keys() == {"overlay.mp4", "frames.csv", "SHA256SUMS", "result.json"}
    for name, sha256 in (each.split("  ")[::-1] for each in (tmp_path / "one" / "SHA256SUMS").read_text().splitlines()):
        assert hashlib.sha256((tmp_path / "one" / name).read_bytes()).hexdigest() == sha256
    assert len((tmp_path / "one" / "SHA256SUMS").read_text().splitlines()) == 3 * 6 + 2


def test_the_overlay_plays_at_the_pace_of_the_clip(moving_nodule, write_video, infer, tmp_path):
    times = [0.0, 0.1, 0.15, 0.9, 1.0]
    path = write_video(tmp_path / "a.mkv", moving_nodule(5), times=times)
    assert infer(path, "--samples", 2, "--out", "one")[0] == 0
    with av.open(str(tmp_path / "one" / "overlay.mp4")) as container:
        (stream,) = container.streams
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert stream.width % 2 == stream.height % 2 == 0
        frames = list(container.decode(stream))
    assert [frame.time for frame in frames] == pytest.approx(times, abs=2e-3)
    one, other = frames[0].to_ndarray(format="rgb24"), frames[4].to_ndarray(format="rgb24")
    assert np.abs(one.astype(int) - other)[80:560, 24:500].mean() > 1  # the picture moves
    yellow = (one[:, :, 0] > 200) & (one[:, :, 1] > 160) & (one[:, :, 2] < 130)
    assert yellow[80:560, 24:500].sum() > 50  # the outline of the consensus


def test_several_classes(clip, infer, tmp_path, monkeypatch):
    monkeypatch.setattr(
        Segmenter, "load", lambda *_args, **_kwargs: toy_segmenter(toy_manifest(classes=("core", "rim")))
    )
    assert infer(clip, "--samples", 2, "--frames", "1-2", "--out", "one")[0] == 0
    folder = tmp_path / "one"
    assert sorted(path.name for path in (folder / "masks").iterdir()) == ["core", "rim"]
    core, rim = (np.array(pages(folder / "masks" / name / "000002.tif")) for name in ("core", "rim"))
    assert core.shape == rim.shape == (2, 128, 128)
    assert core.any()
    assert rim.any()
    assert not (core & rim).any()
    with (folder / "frames.csv").open() as file:
        assert [(row["frame"], row["class"]) for row in csv.DictReader(file)] == [
            ("1", "core"), ("1", "rim"), ("2", "core"), ("2", "rim"),
        ]  # fmt: skip


def test_a_multi_frame_object(infer, tmp_path):
    path = get_testdata_file("examples_ybr_color.dcm", download=False)
    if path is None:
        pytest.skip("the file is absent: pip install pydicom-data")
    code, _, err = infer(path, "--frames", "all", "--samples", 2, "--out", "one")
    assert code == 0, err
    record = json.loads((tmp_path / "one" / "result.json").read_text())
    assert (record["frames"]["count"], record["input"]["kind"]) == (30, "DICOM US")
    code, _, err = infer(path, "--out", "two")
    assert code == 1
    assert "--frames all" in err


def test_a_picture_beside_a_clip(clip, moving_nodule, infer, tmp_path):
    Image.fromarray(next(moving_nodule(1))).save(tmp_path / "a.png")
    code, out, err = infer("a.png", clip, "--samples", 2, "--out", "both")
    assert code == 0, err
    assert (tmp_path / "both" / "a" / "overlay.png").exists()
    assert (tmp_path / "both" / "nodule" / "overlay.mp4").exists()
    assert len(out.splitlines()) == 2


REFUSED = {
    "dicom": (("--dicom-seg",), "--dicom-seg does not go with a clip"),
    "contours": (("--rtstruct",), "--rtstruct does not go with a clip"),
    "limits": (("--limit", "area_px=3"), "--limit does not go with a clip"),
    "representatives": (("--representatives", 2), "--representatives does not go with a clip"),
    "a point in the patient": (("--center-mm", "1,2,3"), "--center-mm does not go with a clip"),
    "one frame": (("--frame", 3), "--frames A-B chooses some"),
    "auto": (("--samples", "auto"), "Give a number of --samples"),
    "frames past the end": (("--frames", "90-99"), "Give --frames from 1 to 15"),
    "no range": (("--frames", "first"), "Give --frames A-B"),
    "a range the wrong way round": (("--frames", "9-3"), "Give --frames A-B"),
    "a point outside": (("--center", "900,900"), "not inside the 128x128 image"),
}


def test_a_folder_with_a_clip_and_pictures(clip, moving_nodule, infer, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    clip.rename(folder / "cine")  # a video by its content
    Image.fromarray(next(iter(moving_nodule(1)))).save(folder / "still.bmp")
    (folder / "notes.txt").write_text("no image")
    code, out, err = infer(folder, "--samples", 2, "--center", "60,70")
    assert (code, out.count("\n")) == (0, 2)
    assert err.startswith("medseg-infer: warning: folder: passed over as no image: 1 other (notes.txt)\n")
    assert sorted(path.name for path in (tmp_path / "results").iterdir()) == ["cine", "still"]


@pytest.mark.parametrize("kind", REFUSED)
def test_refusals_write_nothing(kind, clip, infer, tmp_path):
    options, remedy = REFUSED[kind]
    code, _, err = infer(clip, *options, "--out", "one")
    assert (code, len(err.splitlines())) == (1, 1), err
    assert remedy in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["nodule.mkv"]


def test_a_damaged_clip_leaves_nothing(clip, infer, tmp_path):
    content = bytearray(clip.read_bytes())
    content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
    clip.write_bytes(content)
    code, _, err = infer(clip, "--out", "one")
    if code == 0:
        assert "may be cut short" in err
    else:
        assert sorted(path.name for path in tmp_path.iterdir()) == ["nodule.mkv"]


def test_frames_of_a_picture(infer, tmp_path):
    Image.new("L", (64, 64)).save(tmp_path / "a.png")
    code, _, err = infer("a.png", "--frames", "all", "--out", "one")
    assert code == 1
    assert "no clip" in err


def test_ctrl_c_leaves_nothing_half_written(moving_nodule, write_video, tmp_path):
    path = write_video(tmp_path / "long.mkv", moving_nodule(2000), codec="ffv1", pix_fmt="gray")
    code = (
        "from medseg_runtime import Segmenter; from medseg_runtime.testing import toy_segmenter\n"
        "Segmenter.load = lambda *_, **__: toy_segmenter()\n"
        "from medseg_runtime.commands.infer import main; main()"
    )
    command = [sys.executable, "-c", code, path, "--samples", "2", "--out", tmp_path / "one"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ)
    while not list(tmp_path.glob(".medseg-partial-*/consensus/000010.png")):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, "Traceback" in err) == (130, False), err
    assert [entry.name for entry in tmp_path.iterdir()] == ["long.mkv"]


PEAK = """
import resource, sys
from pathlib import Path
import numpy as np
from medseg_runtime import Clip, SourceImage
from medseg_runtime.testing import toy_segmenter
from medseg_runtime.writers.clip_folder import write_clip

class Drawn(Clip):
    def __iter__(self):
        for number in range(1, self.count + 1):
            pixels = np.full((512, 512), number % 250, np.uint8)
            yield SourceImage(pixels=pixels, sha256="", kind="drawn", frame=number, time_s=number / 10)

clip = Drawn(kind="drawn", sha256="", size=(512, 512), count=int(sys.argv[1]), rate=10.0)
outcomes = toy_segmenter().stream(clip, samples=4, center=(256, 256))
write_clip(Path(sys.argv[2]), clip, (outcome.result() for outcome in outcomes))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_clip(tmp_path):
    """A result of these frames takes 5 MiB: keeping those of 300 more would show."""

    def peak_mib(frames):
        command = [sys.executable, "-c", PEAK, str(frames), tmp_path / str(frames)]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    assert peak_mib(450) - peak_mib(150) < 300
