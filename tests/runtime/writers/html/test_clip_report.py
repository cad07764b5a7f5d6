"""The report of a clip: its frames, or some of them if there are many."""

import json

import numpy as np
import pytest

from medseg_runtime.readers.clip import read_clip
from medseg_runtime.testing import toy_segmenter
from medseg_runtime.writers.clip_folder import write_clip
from medseg_runtime.writers.html.clip import MOST_FRAMES, ClipReport


@pytest.fixture
def clip(write_video, tmp_path):
    frames = [np.random.default_rng(k).integers(0, 255, (80, 96)).astype(np.uint8) for k in range(5)]
    return read_clip(write_video(tmp_path / "clip.mp4", frames))


def written(clip, out):
    segmenter = toy_segmenter()
    write_clip(out, clip, (segmenter(frame, samples=3) for frame in clip), html=True)
    return out / "report.html"


def test_a_slider_goes_over_the_frames(opened, clip, tmp_path):
    path = written(clip, tmp_path / "out")
    assert "report.html" in json.loads((path.parent / "result.json").read_text())["outputs"]
    with opened(path) as page:
        assert page.locator("#slice-name").inner_text() == "Frame"
        assert page.locator("#slice").get_attribute("max") == "4"
        page.locator("#slice").evaluate("(slider) => { slider.value = 3; slider.dispatchEvent(new Event('input')); }")
        page.locator("#slice-value", has_text="4, 0.25 s").wait_for()
        assert page.locator("#measurements tr").count() == 4
        assert not page.locator("#representatives-panel").is_visible()


def test_of_many_frames_every_second_or_fourth_is_kept(clip):
    report, segmenter = ClipReport(), toy_segmenter()
    result = segmenter(next(iter(clip)), samples=2)
    for _ in range(3 * MOST_FRAMES):
        report.add(result)
    assert len(report._frames) == 3 * MOST_FRAMES // 4
    assert report._stride == 4
    assert f"of {3 * MOST_FRAMES} frames are shown" in report._note(1)
