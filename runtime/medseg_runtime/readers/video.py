"""Video files by way of PyAV, which brings FFmpeg's libraries: MP4, MOV, AVI, MKV, WebM, MPEG and what else they decode.

    file => container => packets => frames => (H, W) or (H, W, 3) as stored

Less usual kinds:

    grey of more than 8 bits    kept as 16 bits
    color of more than 8 bits   8 bits a channel; warned of
    alpha                       composited on black; warned of
    rotation (phones)           not applied, as with the EXIF orientation of a photograph; warned of
    interlaced                  not taken apart: a frame shows two moments; warned of
    variable frame rate         each frame has the time that the file states
    several video streams       the first that is not a cover picture
    frames of several sizes     refused

YUV becomes RGB by the matrix and range that the stream states. Sound is ignored.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import IO, Any

import numpy as np

from medseg_runtime.errors import ImageError, ParameterError
from medseg_runtime.files.read import sha256_of
from medseg_runtime.model.preprocess import Pixels
from medseg_runtime.readers.clip import USUAL_RATE, Clip, Frames
from medseg_runtime.readers.source import DAMAGED, SourceImage, check_size

EXTRA = "Run `pip install 'medseglatdiff[video]'`."
SLACK_S = 0.5
"""How much shorter than stated a clip may be without a warning: the last frame's own time, and rounding."""


@dataclass(kw_only=True, slots=True)
class Video(Clip):
    """The frames of a video stream."""

    source: Path | IO[bytes]
    frames: Frames

    def __iter__(self) -> Iterator[SourceImage]:
        number, end_s = 0, 0.0
        with _opened(self.source) as (container, stream), _decoding() as decoded:
            stated_s = _stated_seconds(container, stream)
            for number, frame in enumerate(container.decode(stream), start=1):
                if frame.is_corrupt:
                    raise decoded.damaged()
                decoded.frames, end_s = number, _seconds(frame, stream, number, self.rate)
                if number >= self.frames.first:
                    yield self._image(frame, number, end_s)
                if number == self.frames.last:
                    return
            if number == 0:
                raise decoded.damaged()
        if number < self.frames.first:
            raise ParameterError(f"the clip ends at frame {number}", f"Give --frames from 1 to {number}.")
        if self.frames.last is not None and number < self.frames.last:
            self.warnings.append(f"frames up to {self.frames.last} were asked for, and the clip ends at frame {number}")
        if stated_s is not None and end_s + 1 / self.rate + SLACK_S < stated_s:
            self.warnings.append(
                f"the file states {stated_s:.1f} s and its frames end at {end_s:.1f} s: it may be cut short"
            )

    def _image(self, frame: Any, number: int, time_s: float) -> SourceImage:
        if (frame.height, frame.width) != self.size:
            raise ImageError(
                f"the frames of the clip differ in size, from frame {number} on", f"Give --frames 1-{number - 1}."
            )
        notes = list(_notes(frame))
        pixels = _pixels(frame)
        return SourceImage(
            pixels=pixels, sha256=self.sha256, kind=self.kind, warnings=tuple(notes), frame=number, time_s=time_s
        )


def open_video(path: Path, frames: Frames) -> Video:
    """Read the header of a video file.

    Raises:
        ImageError: it cannot be read, holds no video, is too large, or PyAV is not installed.
    """
    return from_stream(path.absolute(), sha256_of(path, ImageError, DAMAGED), frames)


def from_stream(source: Path | IO[bytes], sha256: str, frames: Frames) -> Video:
    """Read the header of a video in a file, or in an open file in memory.

    Raises:
        ImageError: as `open_video`.
    """
    with _opened(source) as (_, stream):
        context = stream.codec_context
        check_size(context.width, context.height)
        total = stream.frames or frames.last
        rate = stream.average_rate or stream.guessed_rate
        return Video(
            source=source,
            frames=frames,
            kind=f"video {context.codec.canonical_name}",
            sha256=sha256,
            size=(context.height, context.width),
            count=None if not total else max(min(total, frames.last or total) - frames.first + 1, 0),
            rate=float(rate) if rate else USUAL_RATE,
        )


@contextmanager
def _opened(source: Path | IO[bytes]) -> Iterator[tuple[Any, Any]]:
    """Give the container and its first video stream that is no cover picture.

    Raises:
        ImageError: there is none, or PyAV is not installed.
    """
    try:
        av = import_module("av")
    except ImportError as error:
        raise ImageError("a video needs PyAV, which is not installed", EXTRA) from error
    if not isinstance(source, Path):
        source.seek(0)
    try:
        container = av.open(str(source) if isinstance(source, Path) else source)
    except (av.FFmpegError, OSError, ValueError) as error:
        raise ImageError("the video is damaged, cut short, or of an unknown kind", DAMAGED) from error
    with container:
        cover = av.stream.Disposition.attached_pic
        streams = [stream for stream in container.streams.video if not stream.disposition & cover]
        if not streams:
            raise ImageError("the file holds no video", "Give a file with a video stream.")
        stream = streams[0]
        if stream.codec_context is None:
            raise ImageError("the video cannot be decoded here: its codec is not known", DAMAGED)
        stream.thread_type = "AUTO"
        stream.codec_context.options = {"err_detect": "explode"}  # damaged frames are refused, not made up
        yield container, stream


@dataclass(slots=True)
class _Decoded:
    """How many frames were decoded so far."""

    frames: int = 0

    def damaged(self) -> ImageError:
        if not self.frames:
            return ImageError("the video is damaged, or cut short before its first frame", DAMAGED)
        return ImageError(
            f"the video is damaged or cut short after frame {self.frames}",
            f"Copy the file again, or give --frames 1-{self.frames}.",
        )


@contextmanager
def _decoding() -> Iterator[_Decoded]:
    """Raise ImageError, with the last frame that was decoded, for any exception of PyAV inside the block."""
    av, decoded = import_module("av"), _Decoded()
    try:
        yield decoded
    except av.FFmpegError as error:
        raise decoded.damaged() from error


def _stated_seconds(container: Any, stream: Any) -> float | None:
    """Return the length that the file states of its video; None if it states none, or may mean the sound."""
    if stream.duration is not None:
        return float(stream.duration * stream.time_base)
    if container.duration is not None and len(container.streams) == 1:
        return float(container.duration) / 1e6
    return None


def _seconds(frame: Any, stream: Any, number: int, rate: float) -> float:
    if frame.time is None:
        return (number - 1) / rate
    start = 0.0 if stream.start_time is None else float(stream.start_time * stream.time_base)
    return max(float(frame.time) - start, 0.0)


def _notes(frame: Any) -> Iterator[str]:
    """Yield warnings about how a frame is read."""
    components = frame.format.components
    if frame.rotation:
        yield f"the rotation of the video ({frame.rotation} degrees) was not applied: masks are in the grid of the stored pixels"
    if frame.interlaced_frame:
        yield "the video is interlaced: each frame shows two moments, one in every other row"
    if any(component.is_alpha for component in components):
        yield "the video is partly transparent, and was composited on black"
    if len(components) > 1 and max(component.bits for component in components) > 8:
        yield f"colors of {max(component.bits for component in components)} bits were read with 8"


def _pixels(frame: Any) -> Pixels:
    """Decoded frame => (H, W) or (H, W, 3)."""
    components = frame.format.components
    if len(components) == 1 and not frame.format.has_palette:
        pixels: Pixels = frame.to_ndarray(format="gray" if components[0].bits <= 8 else "gray16le")
        return pixels
    if any(component.is_alpha for component in components):
        values = frame.to_ndarray(format="rgba").astype(np.uint16)
        on_black: Pixels = ((values[:, :, :3] * values[:, :, 3:] + 127) // 255).astype(np.uint8)
        return on_black
    color: Pixels = frame.to_ndarray(format="rgb24")
    return color
