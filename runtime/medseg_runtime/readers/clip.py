"""A clip: the frames of a video file or of a multi-frame DICOM object, one after the other.

>>> for image in read_clip("cine.mp4"):                                  # doctest: +SKIP
...     result = segmenter(image)
>>> outcomes = segmenter.stream(read_clip("cine.mp4"), samples=8)        # doctest: +SKIP

A frame is read when it is its turn, so that memory does not grow with the clip. The reader is chosen by the file's content, not by its name.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from medseg_runtime.errors import ImageError, ParameterError
from medseg_runtime.readers.file_kind import head_of, is_video
from medseg_runtime.readers.image import is_dicom
from medseg_runtime.readers.source import SourceImage

REMEDY = "Give a video file, or a DICOM object with several frames."


@dataclass(frozen=True, slots=True)
class Frames:
    """Which frames of a clip to take, counted from 1; by default all.

    Raises:
        ParameterError: there are no such frames in any clip.
    """

    first: int = 1
    last: int | None = None
    """None: to the end of the clip."""

    def __post_init__(self) -> None:
        if self.first < 1 or (self.last is not None and self.last < self.first):
            raise ParameterError(
                f"the frames {self.first} to {self.last} are no range", "Give --frames A-B, counted from 1, or all."
            )


ALL = Frames()
USUAL_RATE = 10.0
"""Frames a second where a file states none."""


@dataclass(kw_only=True, slots=True)
class Clip(ABC):
    """The frames of one file. Iterating reads the file from the beginning, and yields a `SourceImage` for each frame.

    Raises, while it is iterated:
        ImageError: a frame cannot be decoded.
        ParameterError: the clip ends before the first frame asked for.
    """

    kind: str
    """For example `video h264` or `DICOM US`."""
    sha256: str
    """Of the file's bytes."""
    size: tuple[int, int]
    """Height and width of each frame."""
    count: int | None
    """How many frames there will be; None if the file does not state it. For a progress bar: a video may state it wrongly."""
    rate: float
    """Mean number of frames a second; `USUAL_RATE` if the file does not state it."""
    warnings: list[str] = field(default_factory=list)
    """What is wrong with the clip as a whole, one sentence each. Complete after the last frame."""

    @abstractmethod
    def __iter__(self) -> Iterator[SourceImage]:
        """Read frame after frame."""


def read_clip(path: str | os.PathLike[str], frames: Frames = ALL) -> Clip:
    """Open a video file, or a DICOM object with several frames. Video needs the extra `video`.

    Raises:
        ImageError: the file is neither, cannot be read, or is damaged; or PyAV is not installed.
        ParameterError: a DICOM object has no such frames.
    """
    path = Path(path)
    head = head_of(path, REMEDY)
    if is_dicom(head):
        from medseg_runtime.readers.dicom.clip import open_dicom  # pydicom is slow to import

        return open_dicom(path, frames)
    if is_video(head):
        from medseg_runtime.readers.video import open_video

        return open_video(path, frames)
    raise ImageError("this file holds no clip", REMEDY)
