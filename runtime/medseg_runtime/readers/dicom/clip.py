"""The frames of a multi-frame DICOM object, one after the other: cine of US, XA or endoscopy, enhanced CT and MR.

Objects that hold a video (MPEG-2, H.264, HEVC; PS3.5, A.4.4 to A.4.9) are decoded by PyAV, of the extra `video`.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path

import pydicom
from pydicom.encaps import generate_fragments

from medseg_runtime.errors import ImageError, ParameterError
from medseg_runtime.files.read import read_bytes
from medseg_runtime.machine.memory import memory_to_decode
from medseg_runtime.readers.clip import USUAL_RATE, Clip, Frames
from medseg_runtime.readers.dicom.codecs import is_video
from medseg_runtime.readers.dicom.decode import decoder_of
from medseg_runtime.readers.dicom.frame_header import FrameHeader
from medseg_runtime.readers.dicom.guard import DAMAGED, reading
from medseg_runtime.readers.dicom.header import check_kind, modality
from medseg_runtime.readers.dicom.image import frame_image, warn_of_text
from medseg_runtime.readers.dicom.parse import parse
from medseg_runtime.readers.source import READABLE, SourceImage

MIN_FRAME_BYTES = 4
"""Fewest bytes of a frame: 2x2 pixels, or the header of a fragment."""


@dataclass(kw_only=True, slots=True)
class DicomClip(Clip):
    """The frames of a multi-frame object."""

    dataset: pydicom.Dataset = field(repr=False)
    header: pydicom.Dataset = field(repr=False)
    """The same without its pixels."""
    numbers: range
    """Of the frames to read, from 1."""
    times_s: list[float] = field(repr=False)
    """Of every frame of the object, from its first."""

    def __iter__(self) -> Iterator[SourceImage]:
        for number in self.numbers:
            with memory_to_decode() as promise:
                promise(self.size[1], self.size[0])
                image = frame_image(self.dataset, number, self.sha256, stripped=self.header)
            yield replace(image, frame=number, time_s=self.times_s[number - 1])


def open_dicom(path: Path, frames: Frames) -> Clip:
    """Read the header of a multi-frame object.

    Raises:
        ImageError: it cannot be read, or holds one frame.
        ParameterError: there are no such frames.
    """
    content = read_bytes(path, ImageError, READABLE)
    sha256 = hashlib.sha256(content).hexdigest()
    with reading():
        dataset = parse(io.BytesIO(content))
        if is_video(pydicom.uid.UID(str(dataset.file_meta.get("TransferSyntaxUID", "")))):
            return _video(dataset, sha256, frames)
        count = check_kind(dataset)
        if count == 1:
            raise ImageError("this DICOM object holds one frame, which is no clip", "Leave --frames out.")
        if count * MIN_FRAME_BYTES > len(content):
            raise ImageError("the object states more frames (NumberOfFrames) than the file holds", DAMAGED)
        last = frames.last or count
        if frames.first > count or last > count:
            raise ParameterError(f"this DICOM object has {count} frames", f"Give --frames within 1-{count}, or all.")
        decoder_of(dataset)
        stated = FrameHeader(dataset)
        times = _times(stated, count)
        return DicomClip(
            dataset=dataset,
            header=pydicom.dcmread(io.BytesIO(content), stop_before_pixels=True),
            numbers=range(frames.first, last + 1),
            count=last - frames.first + 1,
            kind=f"DICOM {modality(dataset)}".strip(),
            sha256=sha256,
            size=(int(dataset.Rows), int(dataset.Columns)),
            rate=(count - 1) / times[-1],
            times_s=times,
            warnings=stated.warnings,
        )


def _video(dataset: pydicom.Dataset, sha256: str, frames: Frames) -> Clip:
    from medseg_runtime.readers.video import from_stream

    stream = io.BytesIO(b"".join(list(generate_fragments(dataset.PixelData))[1:]))  # the first is the offset table
    video = from_stream(stream, sha256, frames)
    header = FrameHeader(dataset)
    warn_of_text(header)
    return replace(video, kind=f"DICOM {modality(dataset)}".strip(), warnings=header.warnings)


def _times(header: FrameHeader, count: int) -> list[float]:
    """Return the seconds of each frame from the first: Frame Time Vector, Frame Time, or a rate (PS3.3, C.7.6.5)."""
    steps = [step / 1e3 for step in header.numbers("FrameTimeVector")]
    if len(steps) == count and all(0 < step < math.inf for step in steps[1:]):
        return list(accumulate(steps[1:], initial=0.0))
    rate = _rate(header)
    return [number / rate for number in range(count)]


def _rate(header: FrameHeader) -> float:
    """Return the frames a second that a header states."""
    for keyword, to_rate in (
        ("FrameTime", lambda milliseconds: 1e3 / milliseconds),
        ("CineRate", float),
        ("RecommendedDisplayFrameRate", float),
    ):
        stated = header.numbers(keyword)
        if len(stated) == 1 and 0 < stated[0] < math.inf:
            return float(to_rate(stated[0]))
    return USUAL_RATE
