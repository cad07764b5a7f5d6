"""Small files cannot take much memory or time: each is refused before a decoder works on it."""

import json
import subprocess
import sys

import numpy as np
import pytest

from medseg_runtime import ImageError
from medseg_runtime.readers.image import read_image
from tests.runtime.bad_inputs import changed, written
from tests.runtime.readers.hostile_files import HOSTILE, deflated, frame, items, picture, png, scans, tiles

MEASURE = """
import json, re, sys
from pathlib import Path
from medseg_runtime.readers.image import read_image

def peak():  # ru_maxrss would be that of the process that started this one
    return int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1]) >> 10

for name in sys.argv[1:]:
    try:
        read_image(Path(name))
    except ValueError as error:
        print(json.dumps([Path(name).name, str(error), peak()]))
"""
MEGABYTES = 300
"""A process that has imported the readers takes about 60."""


def test_each_is_refused_without_taking_memory(tmp_path):
    paths = [written(tmp_path, name, make()) for name, (make, _) in HOSTILE.items()]
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *map(str, paths)], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [name for name, _, _ in found] == list(HOSTILE)
    for name, error, peak in found:
        assert peak < MEGABYTES, name
        assert error.count(". ") == 1, error


@pytest.mark.parametrize("name", HOSTILE)
def test_the_error_says_why(tmp_path, name):
    make, says = HOSTILE[name]
    with pytest.raises(ImageError, match=says):
        read_image(written(tmp_path, "image", make()))


def test_the_like_of_them_that_is_harmless_is_read(tmp_path):
    def shape(content):
        return read_image(written(tmp_path, "image", content)).pixels.shape

    assert shape(deflated(1 << 20)) == (128, 128)
    assert shape(items(1000, defined=False)) == shape(items(20_000, defined=True)) == (128, 128)
    assert shape(scans(20, 640)) == (640, 640)
    assert shape(tiles(512)) == (64, 64)
    assert shape(png()) == (64, 64)
    assert shape(frame(picture("JPEG2000", 64), "1.2.840.10008.1.2.4.90")) == (64, 64)  # in the boxes of a JP2 file


def test_deflated_pixels_beyond_the_headers_limit_are_read(tmp_path, monkeypatch):
    from medseg_runtime.readers.dicom import parse

    monkeypatch.setattr(parse, "MAX_HEADER_BYTES", 16 << 10)  # the pixels take 32 KB
    path = written(tmp_path, "image", deflated(0))
    same = read_image(written(tmp_path, "plain", changed()))
    assert np.array_equal(read_image(path).pixels, same.pixels)
