"""What the suites of the engines share."""

import importlib.util
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from medseg_runtime.model.bundle import Bundle


def beside(name):
    """Import a module from this folder, which is no package."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def tiny():
    """The module tiny_bundle.py."""
    pytest.importorskip("onnx")
    return beside("tiny_bundle")


@pytest.fixture(scope="session")
def fake_nvidia():
    """The module fake_nvidia.py."""
    pytest.importorskip("cuda.bindings.runtime")
    pytest.importorskip("tensorrt_rtx")
    return beside("fake_nvidia")


@pytest.fixture(scope="session")
def tiny_folder(tiny, tmp_path_factory):
    return tiny.write_bundle(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def tiny_bundle(tiny_folder):
    return Bundle.load(tiny_folder)


@pytest.fixture(scope="session")
def moving_nodule(phantom):
    """moving_nodule(count) -> frames (128, 128) uint8 of a synthetic nodule that goes round, the same for every count."""

    def render(count):
        background = phantom.anatomy(np.random.RandomState(phantom.EXAMPLE_SEED))
        shape = replace(phantom.nodule(np.random.RandomState(0)), radius=6.0, halo=1.0, hu=0.0)
        for number in range(count):
            angle = 2 * np.pi * number / 24
            moved = replace(shape, row=64 + 5 * np.sin(angle), col=64 + 3 * np.cos(angle))
            hu = phantom.mix(background, moved.hu, moved.occupancy())
            yield np.round(255 * np.clip((hu + 1000) / 1100, 0, 1)).astype(np.uint8)

    return render


@pytest.fixture(scope="session")
def write_video():
    """write_video(path, frames, codec=, pix_fmt=, rate=, times=) -> path; the container is that of the suffix."""
    av = pytest.importorskip("av")

    def write(
        path, frames, *, codec="libx264", pix_fmt="yuv420p", rate=12, times=None, options=(), rotation=0, flags=0
    ):
        with av.open(str(path), "w") as container:
            stream = None
            for number, pixels in enumerate(frames):
                if stream is None:
                    stream = container.add_stream(codec, rate=rate, options=dict(options))
                    stream.height, stream.width, stream.pix_fmt = *pixels.shape[:2], pix_fmt
                    stream.codec_context.flags |= flags
                    if rotation:
                        stream.set_display_rotation(rotation)
                    if times:
                        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
                kind = {(2, "uint8"): "gray", (2, "uint16"): "gray16le", (3, "uint8"): "rgb24"}[
                    pixels.ndim, pixels.dtype.name
                ]
                kind = "rgba" if pixels.ndim == 3 and pixels.shape[2] == 4 else kind
                frame = av.VideoFrame.from_ndarray(pixels, format=kind).reformat(format=pix_fmt)
                if times:
                    frame.pts, frame.time_base = round(1000 * times[number]), Fraction(1, 1000)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return path

    return write


@pytest.fixture
def cache_home(tmp_path, monkeypatch):
    """A cache folder of this test's own: what the system gives, and ours in it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "medseglatdiff"
