"""The markers of JPEG streams, as Pillow writes them and as T.81 allows them."""

import io

import numpy as np
import pytest
from PIL import Image

from medseg_runtime.readers.jpeg_markers import EOI, FRAMES, SOS, FrameHeader, scan_ends, segments_of

PICTURE = np.add.outer(np.arange(40), np.arange(72)).astype(np.uint8)


def jpeg(**options):
    buffer = io.BytesIO()
    Image.fromarray(PICTURE).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def test_segments_cover_the_headers_and_one_frame():
    content = jpeg()
    segments = list(segments_of(content))
    (frame,) = (segment for segment in segments if segment.marker in FRAMES)
    assert segments[-1].marker == SOS
    assert FrameHeader.read(content, frame.start) == FrameHeader(bits=8, height=40, width=72, components=1)
    for segment in segments:  # each has its length in front of its parameters
        assert int.from_bytes(content[segment.start - 2 : segment.start]) == segment.end - segment.start + 2


def test_restarts_end_parts_of_a_scan_and_are_no_segments():
    plain, restarted = jpeg(), jpeg(restart_marker_rows=1)
    assert len(list(segments_of(restarted))) == len(list(segments_of(plain))) + 1  # DRI
    scan = list(segments_of(restarted))[-1]
    ends = scan_ends(restarted, scan.end)
    assert len(ends) == 5  # rows of blocks
    assert restarted[ends[-1] :] == bytes([0xFF, EOI])


@pytest.mark.parametrize("between", [b"\xff\x01", b"\xff\xff\xff", b"noise"], ids=["TEM", "fill bytes", "other bytes"])
def test_what_may_stand_between_segments_is_passed_over(between):
    content = jpeg()
    expected = [segment.marker for segment in segments_of(content)]
    assert [segment.marker for segment in segments_of(content[:2] + between + content[2:])] == expected


def test_nothing_is_read_behind_the_end():
    content = jpeg()
    assert list(segments_of(content + content)) == list(segments_of(content))
