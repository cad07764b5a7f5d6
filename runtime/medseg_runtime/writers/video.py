"""Write pictures as a video that browsers play, by way of PyAV.

(h, w, 3) uint8 and a time => H.264 in MP4; VP9 in WebM where PyAV was built without an H.264 encoder
"""

from __future__ import annotations

from fractions import Fraction
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from medseg_runtime.errors import OutputError, ParameterError
from medseg_runtime.figures.viewport import Canvas
from medseg_runtime.readers.video import EXTRA

ENCODERS = {
    "libx264": (".mp4", {"crf": "20", "preset": "superfast"}),
    "libopenh264": (".mp4", {}),
    "libvpx-vp9": (".webm", {"crf": "30", "b": "0", "deadline": "realtime", "cpu-used": "8"}),
}
"""Encoder -> suffix of the file, and options, the best first."""
TICKS = 90_000
"""A second, in the unit of the frames' times."""
HD, LIMITED = 1, 1
"""Of FFmpeg: the color matrix of BT.709, and the range 16 to 235."""


def check_encoder() -> None:
    """Check, before anything is computed, that a video can be written.

    Raises:
        ParameterError: PyAV is not installed, or has none of the encoders.
    """
    _encoder()


def _encoder() -> str:
    try:
        av = import_module("av")
    except ImportError as error:
        raise ParameterError("a clip needs PyAV, which is not installed", EXTRA) from error
    for name in ENCODERS:
        try:
            av.Codec(name, "w")
        except (av.FFmpegError, ValueError):
            continue
        return name
    raise ParameterError(f"PyAV has none of the encoders {', '.join(ENCODERS)}", EXTRA)


class VideoWriter:
    """A video file that grows picture by picture. The first one sets the size. Close it, or it cannot be played."""

    def __init__(self, folder: Path, stem: str, rate: float) -> None:
        """Open the file. rate: mean frames a second, as a hint for the encoder; each picture has its own time."""
        self._av: Any = import_module("av")
        self._encoder = _encoder()
        suffix, self._options = ENCODERS[self._encoder]
        self.path = folder / f"{stem}{suffix}"
        self._rate = Fraction(rate).limit_denominator(1001)
        options = {"movflags": "faststart"} if suffix == ".mp4" else {}
        self._container = self._av.open(str(self.path), "w", options=options)
        self._stream: Any = None
        self._last = -1

    def add(self, picture: Canvas, time_s: float) -> None:
        """Append a picture (h, w, 3). time_s: when it is shown; never before the one before it.

        Raises:
            OutputError: it cannot be encoded or written.
        """
        picture = np.pad(picture, ((0, len(picture) % 2), (0, picture.shape[1] % 2), (0, 0)), mode="edge")
        if self._stream is None:
            self._stream = self._started(picture)
        frame = self._av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(
            format="yuv420p", dst_colorspace=HD, dst_color_range=LIMITED
        )
        frame.pts = self._last = max(round(time_s * TICKS), self._last + 1)
        frame.time_base = Fraction(1, TICKS)
        self._encode(frame)

    def close(self) -> None:
        """Write what the encoder still holds, and the index.

        Raises:
            OutputError: it cannot be written.
        """
        try:
            if self._stream is not None:
                self._encode(None)
            self._container.close()
        except self._av.FFmpegError as error:
            raise self._failed(error) from error

    def _started(self, picture: Canvas) -> Any:
        stream = self._container.add_stream(self._encoder, rate=self._rate, options=self._options)
        stream.height, stream.width, stream.pix_fmt = *picture.shape[:2], "yuv420p"
        context = stream.codec_context
        stream.time_base = context.time_base = Fraction(1, TICKS)
        context.colorspace, context.color_range, context.color_primaries, context.color_trc = HD, LIMITED, HD, HD
        return stream

    def _encode(self, frame: Any) -> None:
        try:
            self._container.mux(self._stream.encode(frame))
        except self._av.FFmpegError as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> OutputError:
        reason = getattr(error, "strerror", None) or type(error).__name__
        return OutputError(f"{self.path.name} cannot be written: {reason}", "Free some space, or choose another --out.")
